//! Which calls a question takes, and what clients are told of their results. All of this runs on the adapter's threads.

use super::{MetadataAdapter, MetadataError, Mode, Session, Table};
use engine::metadata::{Client, GrantedItem, select};
use engine::tlcp::cause::Refusal;
use std::sync::Arc;
use std::time::Duration;

/// What a session is granted.
pub(super) struct Opened {
    pub bandwidth_kbps_max: Option<f64>,
    pub time_to_live: Option<Duration>,
    pub wants_tables: bool,
}

/// What a subscription is granted.
pub(super) struct Subscribed {
    pub items: Vec<GrantedItem>,
    pub fields: Vec<Box<str>>,
    /// What the adapter was told of it, if it wanted that.
    pub table: Option<Arc<Table>>,
}

/// A no: what the client is told, and what the log is.
pub(super) struct Refused {
    pub refusal: Refusal,
    pub failure: Option<String>,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self {
            refusal,
            failure: None,
        }
    }
}

pub(super) fn open(
    adapter: &dyn MetadataAdapter,
    session: &Session,
    client: &Client,
) -> Result<Opened, MetadataError> {
    let bandwidth = adapter.allowed_max_bandwidth(session);
    let wants_tables = adapter.wants_tables_notification(session);
    adapter.notify_new_session(session, client)?;
    Ok(Opened {
        bandwidth_kbps_max: positive(bandwidth),
        time_to_live: adapter.session_time_to_live(session),
        wants_tables,
    })
}

/// A subscription that is asked for.
pub(super) struct Subscribing {
    pub session: Arc<Session>,
    pub sub_id: u32,
    pub data_adapter: Box<str>,
    pub group: Box<str>,
    pub range: Option<(u32, u32)>,
    pub schema: Box<str>,
    pub selector: Option<Box<str>>,
    pub mode: Mode,
    pub wants_tables: bool,
}

impl Subscribing {
    pub fn run(self, adapter: &dyn MetadataAdapter) -> Result<Subscribed, Refused> {
        let (session, data_adapter) = (&*self.session, &*self.data_adapter);
        let items = adapter
            .items(session, &self.group, data_adapter)
            .map_err(|error| subscription(error, false))?;
        let fields = adapter
            .schema(session, &self.group, data_adapter, &self.schema)
            .map_err(|error| subscription(error, true))?;
        let items = select(items, self.range)?;
        if fields.is_empty() {
            return Err(Refusal::bad_schema().into());
        }
        let mode = self.mode;
        let allowed = |item: &String| {
            adapter.mode_may_be_allowed(item, data_adapter, mode)
                && adapter.is_mode_allowed(session, item, data_adapter, mode)
        };
        if !items.iter().all(allowed) {
            return Err(Refusal::mode_not_allowed().into());
        }
        let granted = |item: &String| GrantedItem {
            name: item.as_str().into(),
            frequency_max: positive(adapter.allowed_max_item_frequency(
                session,
                item,
                data_adapter,
            )),
            buffer_size_max: adapter.allowed_buffer_size(session, item, data_adapter),
            source_frequency_max: positive(adapter.min_source_frequency(item, data_adapter)),
            snapshot_length: adapter.distinct_snapshot_length(item, data_adapter),
            trade_safe: adapter.trade_safe(item, data_adapter),
            // A name that the adapter does not know may be one of the configuration.
            selector: self
                .selector
                .as_deref()
                .and_then(|name| adapter.selector(session, item, data_adapter, name)),
            looked_at: None, // ingest knows
        };
        let granted = items.iter().map(granted).collect();
        let table = self.wants_tables.then(|| {
            Arc::new(Table {
                sub_id: self.sub_id,
                mode,
                group: self.group.as_ref().into(),
                schema: self.schema.as_ref().into(),
                data_adapter: data_adapter.to_owned(),
                selector: self.selector.map(Into::into),
                items,
            })
        });
        if let Some(table) = &table {
            adapter
                .notify_new_tables(session, table)
                .map_err(|error| subscription(error, false))?;
        }
        Ok(Subscribed {
            items: granted,
            fields: fields.into_iter().map(Into::into).collect(),
            table,
        })
    }
}

fn positive(value: Option<f64>) -> Option<f64> {
    value.filter(|value| *value > 0.0 && value.is_finite())
}

/// For `create_session`.
pub(super) fn session(error: MetadataError) -> Refused {
    match error {
        MetadataError::Access => Refusal::authentication_failed().into(),
        MetadataError::Unavailable => Refusal::authentication_unavailable().into(),
        MetadataError::Credits { code, text }
        | MetadataError::ConflictingSession { code, text, .. } => credits(code, text),
        other => failed(&other, Refusal::adapter_failed()),
    }
}

/// For `add`.
fn subscription(error: MetadataError, of_schema: bool) -> Refused {
    match error {
        MetadataError::Items if of_schema => Refusal::bad_group_for_schema().into(),
        MetadataError::Items => Refusal::bad_group().into(),
        MetadataError::Schema => Refusal::bad_schema().into(),
        MetadataError::Credits { code, text } => credits(code, text),
        other => failed(&other, Refusal::adapter_failed()),
    }
}

/// For `msg`.
pub(super) fn message(error: MetadataError) -> Refused {
    match error {
        MetadataError::Notification => Refusal::message_failed().into(),
        MetadataError::Credits { code, text } => credits(code, text),
        other => failed(&other, Refusal::message_adapter_failed()),
    }
}

fn credits(code: i64, text: String) -> Refused {
    Refusal::by_adapter(code, text).into()
}

fn failed(error: &MetadataError, refusal: Refusal) -> Refused {
    Refused {
        refusal,
        failure: Some(error.to_string()),
    }
}
