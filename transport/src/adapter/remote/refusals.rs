//! What clients are told when a metadata adapter says no, or cannot be asked. Messages of exceptions are for the log:
//! they may say what is nobody's business.
//!
//! | The adapter | A session | A subscription | A message |
//! |---|---|---|---|
//! | `EA` | 1 | 66 | 35 |
//! | `ER` | 6 | 66 | 35 |
//! | `EC` | its code and text | its code and text | its code and text |
//! | `EX`, which did not help | its code and text | 66 | 35 |
//! | `EI` | 66 | 21, of a schema 22 | 35 |
//! | `ES` | 66 | 23 | 35 |
//! | `EN` | 66 | 66 | 34 |
//! | any other exception, a malformed reply | 66 | 66 | 35 |
//! | does not answer in time | 6 | 66 | 35 |
//! | is not there, or goes away | as configured (6) | 66 | 34 |

use super::metadata::{Desk, Failure};
use super::trouble::Trouble;
use crate::config::plan::WhileAway;
use engine::ari::exception::{ForClient, Kind};
use engine::tlcp::cause::Refusal;

const NOT_CONNECTED: &str = "The Metadata Adapter is not connected";
const SILENT: &str = "The Metadata Adapter does not answer";

pub(super) fn session(desk: &Desk, failure: Failure) -> Refusal {
    match failure {
        Failure::Away | Failure::Lost => match &desk.plan.while_away {
            WhileAway::Retry => Refusal::authentication_unavailable(),
            WhileAway::Fail => Refusal::adapter_failed().with_text(NOT_CONNECTED),
            WhileAway::Code(code, text) => Refusal::by_adapter(*code, text.clone()),
        },
        Failure::Late => Refusal::authentication_unavailable(),
        Failure::Malformed => failed(desk, "a malformed reply", Refusal::adapter_failed()),
        Failure::Exception(exception) => match exception.kind {
            Kind::Access => Refusal::authentication_failed(),
            Kind::ResourceUnavailable => Refusal::authentication_unavailable(),
            Kind::Credits(client) | Kind::ConflictingSession { client, .. } => told(client),
            _ => failed(desk, &exception.message, Refusal::adapter_failed()),
        },
    }
}

/// `of_schema`: the schema was asked for.
pub(super) fn subscription(desk: &Desk, failure: Failure, of_schema: bool) -> Refusal {
    match failure {
        Failure::Away | Failure::Lost => Refusal::adapter_failed().with_text(NOT_CONNECTED),
        Failure::Late => Refusal::adapter_failed().with_text(SILENT),
        Failure::Malformed => failed(desk, "a malformed reply", Refusal::adapter_failed()),
        Failure::Exception(exception) => match exception.kind {
            Kind::Items if of_schema => Refusal::bad_group_for_schema(),
            Kind::Items => Refusal::bad_group(),
            Kind::Schema => Refusal::bad_schema(),
            Kind::Credits(client) => told(client),
            _ => failed(desk, &exception.message, Refusal::adapter_failed()),
        },
    }
}

pub(super) fn message(desk: &Desk, failure: Failure) -> Refusal {
    match failure {
        Failure::Away | Failure::Lost => Refusal::message_failed().with_text(NOT_CONNECTED),
        Failure::Late => Refusal::message_adapter_failed().with_text(SILENT),
        Failure::Malformed => failed(desk, "a malformed reply", Refusal::message_adapter_failed()),
        Failure::Exception(exception) => match exception.kind {
            Kind::Credits(client) => told(client),
            Kind::Notification => Refusal::message_failed(),
            _ => failed(desk, &exception.message, Refusal::message_adapter_failed()),
        },
    }
}

fn told(client: ForClient) -> Refusal {
    Refusal::by_adapter(client.code, client.text)
}

fn failed(desk: &Desk, what: &str, refusal: Refusal) -> Refusal {
    let mut state = desk.state.borrow_mut();
    state.troubles.note(Trouble::Failed, &what);
    refusal
}
