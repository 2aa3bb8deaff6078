//! What the server makes of HTTP besides TLCP: listeners and their roles, proxies in front, pages of other origins,
//! bodies. The binary is started as a process, and asked over real sockets; each test runs on both I/O back ends.

mod bodies;
mod listeners;
mod origins;
mod proxies;
mod support;

/// Makes a test of each function `fn(&str)`, for each back end by its name in the configuration.
macro_rules! on_both_back_ends {
    ($($name:ident),* $(,)?) => {
        mod epoll {
            $(#[test] fn $name() { super::$name("epoll"); })*
        }
        mod uring {
            $(#[test] fn $name() {
                if crate::support::uring_works() {
                    super::$name("uring");
                }
            })*
        }
    };
}
pub(crate) use on_both_back_ends;
