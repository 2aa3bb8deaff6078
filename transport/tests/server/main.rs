//! The whole server over real sockets: the binary is started as a process, and clients talk to it over loopback.
//!
//! Every test is written once and run on both I/O back ends; `uring` is left out, with a notice, where the machine
//! denies it. No test sleeps for what it can wait for, and none judges how long something took: waiting has a bound
//! ([`support::WAIT_MAX`]) beyond which something is certainly broken.

mod handoff;
mod hostile;
mod limits;
mod messages;
mod pages;
mod process;
mod quality;
mod sessions;
mod soak;
mod stalled;
mod support;
mod timeouts;

/// Makes a test of each function `fn(Io)`, for each back end.
macro_rules! on_both_back_ends {
    ($($name:ident),* $(,)?) => {
        mod epoll {
            $(#[test] fn $name() { super::$name(crate::support::Io::Epoll); })*
        }
        mod uring {
            $(#[test] fn $name() {
                if crate::support::uring_works() {
                    super::$name(crate::support::Io::Uring);
                }
            })*
        }
    };
}
pub(crate) use on_both_back_ends;
