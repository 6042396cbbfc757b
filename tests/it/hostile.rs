//! Clients that mean harm, against a running error tracker and, where they are pages or send maps, a browser relay.
//! During every attack the service stays healthy, takes the reports of an honest client and stays small; afterwards it
//! has let go of everything.

mod floods;
mod framing;
mod nonsense;
mod relay;
mod siege;
mod sizes;
mod slow;
mod unread;
