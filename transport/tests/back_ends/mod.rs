//! The I/O back ends of the server's shards: a test is written once and run on each. `uring` is left out, with a notice, where
//! the machine denies it.

/// A back end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    Epoll,
    Uring,
}

impl Io {
    /// As the configuration names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Epoll => "epoll",
            Self::Uring => "uring",
        }
    }
}

/// Whether this machine lets the server use io_uring.
pub fn uring_works() -> bool {
    match brightwire::reactor::probe::probe().obstacle {
        None => true,
        Some(obstacle) => {
            eprintln!("skipped: {obstacle}");
            false
        }
    }
}

/// Makes a test of each function `fn(Io)`, for each back end.
macro_rules! on_both_back_ends {
    ($($name:ident),* $(,)?) => {
        mod epoll {
            $(#[test] fn $name() { super::$name(crate::back_ends::Io::Epoll); })*
        }
        mod uring {
            $(#[test] fn $name() {
                if crate::back_ends::uring_works() {
                    super::$name(crate::back_ends::Io::Uring);
                }
            })*
        }
    };
}
pub(crate) use on_both_back_ends;
