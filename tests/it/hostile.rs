//! Attacks on a running error tracker and browser relay. During every attack, the service stays healthy, accepts the
//! reports of an honest client and keeps its memory limit; afterwards, it has released all resources.

mod attack;
mod floods;
mod framing;
mod nonsense;
mod processor_wait;
mod relay;
mod shares;
mod sizes;
mod slow;
mod unread;
