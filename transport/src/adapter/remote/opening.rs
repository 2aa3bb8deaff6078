//! The opening of a session: `NUS` (or `NUA`), then `NNS`; again `NNS`, about another id, when a session that was in its
//! way is closed.

use super::metadata::{Desk, Failure, end_session};
use engine::ari::exception::{Exception, Kind};
use engine::ari::metadata::{Reply, Request};
use engine::metadata::client::Certificate;
use engine::metadata::{Client, Granted};
use engine::shard::session_id;
use engine::tlcp::cause::Reason;
use engine::tlcp::cid;
use smol::channel::bounded;
use std::time::Duration;

/// How often a session that is in the way of a new one may be closed: one would do, unless the adapter names another
/// one each time. (guess)
const CONFLICTS_MAX: usize = 3;

/// A session on its way.
pub(super) struct Opening<'q> {
    /// The id that its shard has made for it.
    pub session: &'q str,
    pub user: Option<&'q str>,
    pub password: Option<&'q str>,
    pub client: &'q Client,
}

impl Opening<'_> {
    pub async fn run(&self, desk: &Desk) -> Result<Granted, Failure> {
        let (bandwidth_kbps_max, wants_tables) = self.check_user(desk).await?;
        let mut name: Box<str> = self.session.into();
        let mut conflicts = 0;
        let opened = loop {
            match self.announce(desk, &name).await {
                Err(Failure::Exception(Exception {
                    kind: Kind::ConflictingSession { client, session },
                    message,
                })) => {
                    conflicts += 1;
                    let other = session.filter(|_| conflicts <= CONFLICTS_MAX);
                    let closed = match &other {
                        Some(other) => close_other(desk, other).await,
                        None => false,
                    };
                    let next = match closed {
                        true => another_name(desk, &name),
                        false => None,
                    };
                    let Some(next) = next else {
                        let kind = Kind::Credits(client);
                        return Err(Failure::Exception(Exception { kind, message }));
                    };
                    name = next;
                }
                other => break other,
            }
        };
        let mut state = desk.state.borrow_mut();
        let state = &mut *state;
        if let Some(known) = state.sessions.get(&name) {
            known.wants_tables = wants_tables;
            // One that has not answered in time may have agreed.
            known.known = matches!(&opened, Ok(_) | Err(Failure::Late));
            known.closed |= opened.is_err();
            if known.known {
                state.memory.session_opened(self.user);
            }
        }
        let time_to_live_s = opened?;
        Ok(Granted::Session {
            adapter_set: desk.set.id,
            session: (*name != *self.session).then_some(name),
            bandwidth_kbps_max,
            time_to_live: time_to_live_s.map(Duration::from_secs),
            notices: true,
        })
    }

    async fn check_user(&self, desk: &Desk) -> Result<(Option<f64>, bool), Failure> {
        // One request makes one session, so that the session's first id can name the request.
        let mut headers: Vec<_> = self.client.headers.iter().collect();
        headers.push(("REQUEST_ID", self.session));
        let principal = match &self.client.certificate {
            Certificate::NotAsked => None,
            Certificate::Missing => Some(None),
            Certificate::Principal(name) => Some(Some(&**name)),
        };
        let reply = desk.call(Request::User {
            user: self.user,
            password: self.password,
            principal,
            headers: &headers,
        });
        match reply.await?.read()? {
            Reply::User {
                bandwidth_kbps_max,
                wants_tables,
            } => Ok((bandwidth_kbps_max, wants_tables)),
            _ => Err(Failure::Malformed),
        }
    }

    /// Tells the adapter of the session; returns the age in seconds that it may reach.
    async fn announce(&self, desk: &Desk, session: &str) -> Result<Option<u64>, Failure> {
        let client = self.client;
        let port = (client.port > 0).then(|| client.port.to_string());
        let cid = client.cid.as_deref();
        let (library, version) = match cid.and_then(cid::library) {
            Some((library, version)) => (Some(library), version),
            None => (cid, None),
        };
        let context = [
            ("REMOTE_IP", Some(&*client.ip)),
            ("REMOTE_PORT", port.as_deref()),
            ("USER_AGENT", client.headers.get("user-agent")),
            ("FORWARDING_INFO", client.headers.get("x-forwarded-for")),
            ("LOCAL_SERVER", client.listener.as_deref()),
            ("CLIENT_TYPE", library),
            ("CLIENT_VERSION", version),
            ("REQUEST_ID", Some(self.session)),
        ];
        let request = Request::NewSession {
            user: self.user,
            session,
            context: &context,
        };
        match desk.call(request).await?.read()? {
            Reply::Session { time_to_live_s } => Ok(time_to_live_s),
            _ => Err(Failure::Malformed),
        }
    }
}

/// Gives a session another name, since the adapter has refused the one that it had.
fn another_name(desk: &Desk, name: &str) -> Option<Box<str>> {
    let mut random = [0; session_id::RANDOM_BYTES];
    getrandom::fill(&mut random).ok()?;
    let other = session_id::another(name, random)?;
    let mut state = desk.state.borrow_mut();
    state.sessions.rename(name, &other).then_some(other)
}

/// Closes a session that is in the way of another, and waits until the adapter has been told.
async fn close_other(desk: &Desk, session: &str) -> bool {
    let ended = {
        let mut state = desk.state.borrow_mut();
        let Some(known) = state.sessions.get(session) else {
            return false;
        };
        let (sender, ended) = bounded(1);
        known.on_end.push(sender);
        ended
    };
    end_session(desk, session, Reason::REPLACED_BY_NEWER.into());
    let ended = async { ended.recv().await.is_ok() };
    let late = async {
        desk.host.sleep(desk.plan.timeout).await;
        false
    };
    smol::future::or(ended, late).await
}
