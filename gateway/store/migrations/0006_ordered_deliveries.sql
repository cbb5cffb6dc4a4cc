-- The record that an event is about: those about one are sent one after another. Those that are due now know none and share a line.
ALTER TABLE hook_deliveries ADD COLUMN subject TEXT NOT NULL DEFAULT '';
-- Those that were done long ago are forgotten, the oldest first.
CREATE INDEX hook_deliveries_done ON hook_deliveries (done_at_ms) WHERE done_at_ms IS NOT NULL;
