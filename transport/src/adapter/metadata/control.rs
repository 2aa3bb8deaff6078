//! What a metadata adapter wants of the server of its own accord.

use super::desk::Heard;
use crate::runtime::host::HostWaker;
use crossbeam::queue::{ArrayQueue, SegQueue};
use engine::metadata::Order;
use engine::tlcp::cause::{Cause, Reason};
use std::fmt;
use std::sync::{Arc, OnceLock};

/// Wishes that may wait for the desk. (guess)
const ORDERS_MAX: usize = 100_000;

/// By this an adapter ends sessions and subscriptions. It may be cloned, and used from any thread.
#[derive(Clone)]
pub struct MetadataControl(pub(super) Arc<Wires>);

/// What leads to a desk.
pub(super) struct Wires {
    /// What has come of calls. Bounded by the questions that are open.
    pub heard: SegQueue<Heard>,
    /// What the adapter wants.
    pub orders: ArrayQueue<Order>,
    pub failure: OnceLock<String>,
    waker: HostWaker,
}

impl Wires {
    pub fn new(waker: HostWaker) -> Arc<Self> {
        Arc::new(Self {
            heard: SegQueue::new(),
            orders: ArrayQueue::new(ORDERS_MAX),
            failure: OnceLock::new(),
            waker,
        })
    }

    pub fn hear(&self, heard: Heard) {
        self.heard.push(heard);
        self.waker.wake();
    }
}

impl MetadataControl {
    /// Ends a session of this adapter set. With a code of 0 or below and a text its client is told these, else that the
    /// server has closed the session. One that is gone already is no error.
    pub fn force_session_termination(
        &self,
        session: &str,
        cause: Option<(i64, &str)>,
    ) -> Result<(), TooManyWishes> {
        let cause = match cause {
            Some((code, text)) => Cause::destroyed(Some(code), Some(text)),
            None => Reason::CLOSED_BY_SERVER.into(),
        };
        let session = session.into();
        self.order(Order::EndSession { session, cause })
    }

    /// Ends a subscription of a session that [wants](super::MetadataAdapter::wants_tables_notification) to be told of
    /// subscriptions. One that is gone already is no error.
    pub fn force_unsubscription(&self, session: &str, sub_id: u32) -> Result<(), TooManyWishes> {
        let session = session.into();
        self.order(Order::Unsubscribe { session, sub_id })
    }

    /// The adapter cannot go on: the server stops, for a supervisor to start it anew. Only the first reason counts.
    pub fn failure(&self, reason: impl Into<String>) {
        let _ = self.0.failure.set(reason.into());
        self.0.waker.wake();
    }

    fn order(&self, order: Order) -> Result<(), TooManyWishes> {
        self.0.orders.push(order).map_err(|_| TooManyWishes)?;
        self.0.waker.wake();
        Ok(())
    }
}

/// So much is wanted at once that the server does not keep up: 100,000 wishes wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyWishes;

impl fmt::Display for TooManyWishes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too many sessions or subscriptions are to be ended at once")
    }
}

impl std::error::Error for TooManyWishes {}
