"""Events that account vendors send: taken once, pending until they were looked into.

Must not know how they came or what is done about them.  Theory: whoever sends an event again must find it known whatever
happened since, so what was taken stays in its row for ever, and only what is pending stays in memory (P13).
"""

from gateway.core.book import Book
from gateway.core.commands import CloseEvent, Done, Result, TakeEvent


def decide_event(book: Book, command: TakeEvent) -> Result:
    """Take an event that is news; the journal finds it by the payment of the thing that it speaks of, where it has one."""
    event = command.event
    place = (event.vendor, event.event_id)
    if place in book.rows.events or place in book.pending_events or book.reader.has_event(*place):
        return Done(changed=False)
    book.pending_events[place] = book.rows.events[place] = event
    thing = book.resource(event.vendor, event.ref)
    content = {
        "vendor": event.vendor,
        "event_id": event.event_id,
        "event": event.kind,  # `kind` is the journal's own word for the row
        "ref": event.ref,
        "state": event.state,
        "created_at_ms": event.created_at_ms,
    }
    payment_id = None if thing is None else thing.payment_id or None
    book.journal(event.received_at_ms, "vendor.event", payment_id, content)
    return Done()


def decide_close_event(book: Book, command: CloseEvent) -> Result:
    """Be done with an event; one that is not pending changes nothing."""
    place = (command.vendor, command.event_id)
    if book.pending_events.pop(place, None) is None:
        return Done(changed=False)
    book.rows.closed_events[place] = command.at_ms
    return Done()
