//! The built-in metadata adapter with rules: who may come in, and what of which items.
//!
//! It is enough for a small shop without code: families of items, users with passwords or signed tokens, limits for all,
//! for families and for users, all from the configuration. Groups are lists of items' names and schemas lists of fields'
//! names, as with the one without rules, which `engine` has. It is asked as any other adapter in this process
//! ([`super::metadata`]), because to check a password takes tens of milliseconds on purpose.
//!
//! | Who | is let in |
//! |---|---|
//! | a user of [`LiteralPlan::allowed_users`] | by the name alone |
//! | a user of [`LiteralPlan::users`] | by the password, of which only an argon2 hash is known ([`passwords`]) |
//! | whoever has a token instead of a password | if it is signed for the user and has not expired ([`tokens`]) |
//! | anybody | if there are none of the three |

pub mod passwords;
pub mod tokens;

use super::metadata::{
    Admission, Answer, Login, MetadataAdapter, MetadataError, MetadataOptions, Mode, Session,
};
use passwords::Hash;
use regex::{Regex, RegexBuilder};
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::time::{Duration, SystemTime};
use tokens::{Tokens, TokensPlan};

/// Rules of one adapter set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LiteralPlan {
    /// Users who need no password.
    pub allowed_users: Vec<String>,
    /// Users with passwords.
    pub users: Vec<UserPlan>,
    /// Tokens in place of passwords.
    pub tokens: Option<TokensPlan>,
    /// Kinds of items; the first that an item belongs to counts, and items of none cannot be had. If there are none, all
    /// items can be had in every mode.
    pub families: Vec<Family>,
    /// Kilobits per second that a session may be sent at most.
    pub max_bandwidth: Option<f64>,
    /// What holds for items whose family does not say otherwise.
    pub limits: ItemLimits,
}

/// A user with a password.
#[derive(Clone, Debug, PartialEq)]
pub struct UserPlan {
    /// The name.
    pub name: String,
    /// What the password is checked by.
    pub password: Hash,
    /// What the user may have.
    pub rights: Rights,
}

/// Items with something in common.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Their names.
    pub items: Pattern,
    /// Their data adapter; `None`: any.
    pub data_adapter: Option<String>,
    /// The modes in which they can be had.
    pub modes: Vec<Mode>,
    /// What holds for them.
    pub limits: ItemLimits,
}

/// Limits of items.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ItemLimits {
    /// Updates per second and item that a session may have.
    pub max_frequency: Option<f64>,
    /// Events that may wait for a session and item.
    pub buffer_size: Option<u32>,
    /// Events that make up a snapshot in DISTINCT mode.
    pub distinct_snapshot_length: Option<u32>,
    /// Events per second to which an item is thinned out for everybody.
    pub prefilter_frequency: Option<f64>,
}

/// What a user may have; the lower of this and what the rules say counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rights {
    /// Items; `None`: all that the rules allow.
    pub items: Option<Vec<Pattern>>,
    /// Updates per second and item.
    pub max_frequency: Option<f64>,
    /// Kilobits per second.
    pub max_bandwidth: Option<f64>,
    /// When they end, and with them the session.
    pub until: Option<SystemTime>,
}

/// A regular expression that a whole name must match.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    regex: Regex,
}

/// Bytes that a compiled pattern may take: those of tokens come from elsewhere. (guess: ordinary ones take a tenth)
const PATTERN_BYTES_MAX: usize = 1 << 20;

impl Pattern {
    /// Reads a pattern; the error says what is wrong with it.
    pub fn new(text: &str) -> Result<Self, String> {
        let regex = RegexBuilder::new(&format!("^(?:{text})$"))
            .size_limit(PATTERN_BYTES_MAX)
            .build();
        match regex {
            Ok(regex) => Ok(Self {
                text: text.to_owned(),
                regex,
            }),
            // The message has a line for the pattern, and one that points into it.
            Err(error) => Err(error
                .to_string()
                .lines()
                .last()
                .unwrap_or_default()
                .trim_start_matches("error: ")
                .to_owned()),
        }
    }

    /// Whether a whole name matches.
    pub fn matches(&self, name: &str) -> bool {
        self.regex.is_match(name)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// The adapter.
pub struct Literal {
    plan: LiteralPlan,
    /// By name.
    users: HashMap<String, usize>,
    tokens: Option<Tokens>,
}

impl Literal {
    /// By these rules. The error says what is wrong with the key of the tokens.
    pub fn new(plan: LiteralPlan) -> Result<Self, String> {
        let names = plan.users.iter().map(|user| user.name.clone());
        Ok(Self {
            users: names.zip(0..).collect(),
            tokens: plan.tokens.as_ref().map(Tokens::new).transpose()?,
            plan,
        })
    }

    /// How it wants to be called: passwords take time, so that two threads check them; all else is quick.
    pub fn options() -> MetadataOptions {
        const TWO: NonZeroUsize = NonZeroUsize::new(2).unwrap();
        MetadataOptions {
            user_threads: TWO,
            session_threads: NonZeroUsize::MIN,
            subscription_threads: NonZeroUsize::MIN,
            message_threads: NonZeroUsize::MIN,
            ..MetadataOptions::default()
        }
    }

    fn admit(&self, user: Option<&str>, password: Option<&str>) -> Result<Rights, MetadataError> {
        let plan = &self.plan;
        if plan.allowed_users.is_empty() && plan.users.is_empty() && self.tokens.is_none() {
            return Ok(Rights::default());
        }
        let (user, password) = (
            user.ok_or(MetadataError::Access)?,
            password.unwrap_or_default(),
        );
        if plan.allowed_users.iter().any(|allowed| allowed == user) {
            return Ok(Rights::default());
        }
        if let Some(tokens) = self.tokens.as_ref().filter(|_| tokens::is_one(password)) {
            return tokens.check(user, password).map_err(|reason| {
                tracing::debug!(user, "a token is refused: {reason}");
                MetadataError::Access
            });
        }
        // That there is no such user takes as long to find out as that the password is wrong.
        let known = self.users.get(user).map(|index| &plan.users[*index]);
        let checked = known.or(plan.users.first()).ok_or(MetadataError::Access)?;
        let right = checked.password.verify(password);
        match known {
            Some(known) if right => Ok(known.rights.clone()),
            _ => Err(MetadataError::Access),
        }
    }

    /// The rules for an item. `None`: it belongs to no family, though there are some.
    fn limits(&self, item: &str, data_adapter: &str) -> Option<ItemLimits> {
        let general = self.plan.limits;
        if self.plan.families.is_empty() {
            return Some(general);
        }
        let of_family = self.family(item, data_adapter)?.limits;
        Some(ItemLimits {
            max_frequency: of_family.max_frequency.or(general.max_frequency),
            buffer_size: of_family.buffer_size.or(general.buffer_size),
            distinct_snapshot_length: of_family
                .distinct_snapshot_length
                .or(general.distinct_snapshot_length),
            prefilter_frequency: of_family
                .prefilter_frequency
                .or(general.prefilter_frequency),
        })
    }

    fn family(&self, item: &str, data_adapter: &str) -> Option<&Family> {
        let mut families = self.plan.families.iter();
        families.find(|family| {
            let adapter = family.data_adapter.as_deref();
            adapter.is_none_or(|adapter| adapter == data_adapter) && family.items.matches(item)
        })
    }
}

/// Length of DISTINCT snapshots unless told otherwise: that of the reference product's adapter of this kind.
const SNAPSHOT_LENGTH: u32 = 10;

impl MetadataAdapter for Literal {
    fn notify_user(&self, login: &Login) -> Answer<Admission> {
        let rights = self.admit(login.user(), login.password());
        rights.map(Admission::with_rights).into()
    }

    fn allowed_max_bandwidth(&self, session: &Session) -> Option<f64> {
        least(self.plan.max_bandwidth, rights(session)?.max_bandwidth)
    }

    fn session_time_to_live(&self, session: &Session) -> Option<Duration> {
        let until = rights(session)?.until?;
        let left = until.duration_since(SystemTime::now()).unwrap_or_default();
        Some(left.max(Duration::from_millis(1)))
    }

    fn items(&self, session: &Session, group: &str, _: &str) -> Result<Vec<String>, MetadataError> {
        let items: Vec<String> = group.split_ascii_whitespace().map(Into::into).collect();
        let allowed = rights(session).and_then(|rights| rights.items.as_deref());
        let may = |item: &String| {
            allowed.is_none_or(|patterns| patterns.iter().any(|pattern| pattern.matches(item)))
        };
        // To those who may not have an item it does not exist.
        match items.iter().all(may) {
            true => Ok(items),
            false => Err(MetadataError::Items),
        }
    }

    fn mode_may_be_allowed(&self, item: &str, data_adapter: &str, mode: Mode) -> bool {
        self.plan.families.is_empty()
            || self
                .family(item, data_adapter)
                .is_some_and(|family| family.modes.contains(&mode))
    }

    fn allowed_max_item_frequency(
        &self,
        session: &Session,
        item: &str,
        data_adapter: &str,
    ) -> Option<f64> {
        let of_user = rights(session).and_then(|rights| rights.max_frequency);
        least(self.limits(item, data_adapter)?.max_frequency, of_user)
    }

    fn allowed_buffer_size(&self, _: &Session, item: &str, data_adapter: &str) -> Option<u32> {
        self.limits(item, data_adapter)?.buffer_size
    }

    fn min_source_frequency(&self, item: &str, data_adapter: &str) -> Option<f64> {
        self.limits(item, data_adapter)?.prefilter_frequency
    }

    fn distinct_snapshot_length(&self, item: &str, data_adapter: &str) -> u32 {
        let limits = self.limits(item, data_adapter);
        limits
            .and_then(|limits| limits.distinct_snapshot_length)
            .unwrap_or(SNAPSHOT_LENGTH)
    }

    /// It has no use for messages, and nothing against them.
    fn notify_user_message(&self, _: &Session, _: &str) -> Answer<Option<String>> {
        Answer::ok()
    }
}

fn rights(session: &Session) -> Option<&Rights> {
    session.rights()
}

/// The lower of two limits, either of which may be missing.
fn least(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family(items: &str, data_adapter: Option<&str>, modes: &[Mode]) -> Family {
        Family {
            items: Pattern::new(items).unwrap(),
            data_adapter: data_adapter.map(Into::into),
            modes: modes.to_vec(),
            limits: ItemLimits::default(),
        }
    }

    fn literal(families: Vec<Family>) -> Literal {
        let plan = LiteralPlan {
            families,
            ..LiteralPlan::default()
        };
        Literal::new(plan).unwrap()
    }

    #[test]
    fn the_first_family_decides_and_items_of_none_are_not_to_be_had() {
        let literal = literal(vec![
            family("portfolio.*", Some("PORTFOLIO"), &[Mode::Command]),
            family("portfolio.*", Some("JSON"), &[Mode::Merge]),
            family("item[0-9]+", None, &[Mode::Merge, Mode::Raw]),
            family("item.*", None, &[Mode::Distinct]),
        ]);
        let modes = |item, adapter| {
            let all = [Mode::Raw, Mode::Merge, Mode::Distinct, Mode::Command];
            all.map(|mode| literal.mode_may_be_allowed(item, adapter, mode))
        };
        assert_eq!(
            modes("portfolio1", "PORTFOLIO"),
            [false, false, false, true]
        );
        assert_eq!(modes("portfolio1", "JSON"), [false, true, false, false]);
        assert_eq!(modes("portfolio1", "OTHER"), [false; 4]);
        assert_eq!(modes("item1", "ANY"), [true, true, false, false]);
        assert_eq!(modes("itemX", "ANY"), [false, false, true, false]);
        // The whole name must match.
        assert_eq!(modes("an item1", "ANY"), [false; 4]);
        assert_eq!(modes("anything", "ANY"), [false; 4]);
    }

    #[test]
    fn without_families_everything_is_to_be_had() {
        let literal = literal(Vec::new());
        assert!(literal.mode_may_be_allowed("anything", "ANY", Mode::Command));
        assert_eq!(literal.distinct_snapshot_length("anything", "ANY"), 10);
        assert_eq!(literal.admit(None, None), Ok(Rights::default()));
    }

    #[test]
    fn an_alternative_is_matched_as_a_whole() {
        let pattern = Pattern::new("a|b.*").unwrap();
        assert!(pattern.matches("a") && pattern.matches("bcd"));
        assert!(!pattern.matches("ac") && !pattern.matches("xb"));
    }

    #[test]
    fn a_pattern_that_is_none_is_explained_and_a_monster_refused() {
        assert_eq!(
            Pattern::new("item[").unwrap_err(),
            "unclosed character class"
        );
        let monster = Pattern::new("(?:(?:\\w{100}){100}){100}").unwrap_err();
        assert!(monster.contains("size limit"), "{monster}");
    }

    #[test]
    fn limits_of_a_family_count_before_those_of_the_set() {
        let mut plan = LiteralPlan {
            families: vec![family("a", None, &[]), family("b", None, &[])],
            ..LiteralPlan::default()
        };
        plan.limits.max_frequency = Some(3.0);
        plan.limits.buffer_size = Some(5);
        plan.families[1].limits.max_frequency = Some(9.0);
        plan.families[1].limits.distinct_snapshot_length = Some(0);
        let literal = Literal::new(plan).unwrap();
        let frequency = |item| literal.limits(item, "ANY").unwrap().max_frequency;
        assert_eq!((frequency("a"), frequency("b")), (Some(3.0), Some(9.0)));
        assert_eq!(literal.limits("b", "ANY").unwrap().buffer_size, Some(5));
        assert_eq!(literal.distinct_snapshot_length("a", "ANY"), 10);
        assert_eq!(literal.distinct_snapshot_length("b", "ANY"), 0);
        assert_eq!(literal.limits("c", "ANY"), None);
    }

    #[test]
    fn users_are_let_in_by_name_or_by_password() {
        let hash = |password| Hash::new(&passwords::hash_cheaply(password)).unwrap();
        let user = |name: &str, password| UserPlan {
            name: name.to_owned(),
            password: hash(password),
            rights: Rights {
                max_frequency: Some(2.0),
                ..Rights::default()
            },
        };
        let plan = LiteralPlan {
            allowed_users: vec!["guest".into()],
            users: vec![user("ann", "secret"), user("bob", "")],
            ..LiteralPlan::default()
        };
        let literal = Literal::new(plan).unwrap();
        let admitted = |user, password| {
            let rights = literal.admit(user, password);
            rights.map(|rights| rights.max_frequency)
        };
        let no = Err(MetadataError::Access);
        assert_eq!(admitted(Some("guest"), None), Ok(None));
        assert_eq!(admitted(Some("ann"), Some("secret")), Ok(Some(2.0)));
        assert_eq!(
            admitted(Some("bob"), None),
            Ok(Some(2.0)),
            "empty is a password"
        );
        assert_eq!(admitted(Some("ann"), Some("Secret")), no);
        assert_eq!(admitted(Some("ann"), None), no);
        assert_eq!(admitted(Some("eve"), Some("secret")), no);
        assert_eq!(admitted(None, Some("secret")), no);
        assert_eq!(admitted(None, None), no);
    }
}
