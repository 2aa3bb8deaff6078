//! What both back ends of the reactor promise, tried with real sockets on loopback. Every test is written once and
//! run on both; `uring` is left out, with a notice, where the machine denies it.

mod accepting;
mod ending;
mod moving;
mod sending;
mod soak;
mod support;
mod waiting;

use brightwire::reactor::epoll::EpollReactor;
use brightwire::reactor::probe::Features;
use brightwire::reactor::uring::UringReactor;

/// Makes a test of each function `fn(impl Fn(usize) -> R)`, for each back end; the argument makes a reactor with room for
/// so many connections.
macro_rules! on_both_back_ends {
    ($($name:ident),* $(,)?) => {
        mod epoll {
            $(#[test] fn $name() { super::$name(|max| crate::EpollReactor::new(max).unwrap()); })*
        }
        mod uring {
            $(#[test] fn $name() {
                if let Some(features) = crate::support::uring_features() {
                    super::$name(move |max| crate::UringReactor::new(features, max).unwrap());
                }
            })*
        }
        /// The ring without what newer kernels and larger limits add: no deferred work, no table of files.
        mod uring_plain {
            $(#[test] fn $name() {
                if let Some(features) = crate::support::uring_features() {
                    let features = crate::Features {
                        single_issuer: false, defer_taskrun: false, coop_taskrun: false, direct_files: false,
                        ..features
                    };
                    super::$name(move |max| crate::UringReactor::new(features, max).unwrap());
                }
            })*
        }
    };
}
pub(crate) use on_both_back_ends;
