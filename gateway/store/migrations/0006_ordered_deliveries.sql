-- The record that an event is about: those about one are sent one after another. Those that are due now know none and share a line.
ALTER TABLE hook_deliveries ADD COLUMN subject TEXT NOT NULL DEFAULT '';
