//! Frequencies and bandwidths hold over every window of time, whatever the feed does, whatever the client takes when, and
//! also when they are changed on the way: no two updates, however far apart, have more between them than is granted.

use engine::ids::{DataAdapterId, ShardId};
use engine::sim::world::{Options, Say, WireId, World};
use engine::time::{Duration, Instant};
use engine::tlcp::Version;
use engine::tlcp::client::{FieldValues, Line};
use engine::tlcp::notify::GrantedBandwidth;
use proptest::prelude::*;
use std::collections::BTreeMap;

const ITEMS: [&str; 2] = ["live1", "live2"];
const KEYS: [&str; 2] = ["A", "B"];
/// What a session may save up of its bandwidth.
const BURST_S: f64 = 0.25;

#[derive(Clone, Debug)]
enum Happening {
    /// An item, a row of it where there are several, and how many bytes change.
    Update(usize, usize, usize),
    Wait(u64),
    Stall,
    Resume,
    /// `reconf` and `constrain`.
    Frequency(u32),
    Bandwidth(u32),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        12 => (0..ITEMS.len(), 0..KEYS.len(), 1usize..200).prop_map(|(item, key, bytes)| Happening::Update(item, key, bytes)),
        8 => (1u64..150).prop_map(Happening::Wait),
        1 => Just(Happening::Stall),
        2 => Just(Happening::Resume),
        1 => (1u32..40).prop_map(Happening::Frequency),
        1 => (1u32..64).prop_map(Happening::Bandwidth),
    ]
}

/// An update as it reached the client.
struct Update {
    written: Instant,
    bytes: usize,
    /// Whose pace it has to keep: the item's, or in COMMAND the row's; `None` if it may come at any time.
    of: Option<(u32, String)>,
}

/// What was granted, from the line that tells it to the next such line.
#[derive(Default)]
struct Period {
    hz: Option<f64>,
    kbps: Option<f64>,
    updates: Vec<Update>,
}

fn play(mode: &str, schedule: &[Happening], hz: u32, kbps: u32, delay_ms: u64) -> Vec<Period> {
    let mut options = Options::default();
    options.config.update_delay_max = Duration::from_millis(delay_ms);
    let mut world = World::new(options);
    let wire = world.connect(ShardId(0), Version::LATEST);
    let group = ITEMS.join("%20");
    let schema = match mode {
        "COMMAND" => "n%20key%20command",
        _ => "n",
    };
    world.send(
        wire,
        format!("create_session\r\nLS_cid=x&LS_send_sync=false&LS_requested_max_bandwidth={kbps}"),
    );
    world.send(
        wire,
        format!(
            "control\r\nLS_reqId=1&LS_op=add&LS_subId=1&LS_mode={mode}&LS_group={group}&LS_schema={schema}\
             &LS_requested_max_frequency={}&LS_requested_buffer_size=5",
            hertz(hz)
        ),
    );
    world.settle();
    for (number, happening) in schedule.iter().enumerate() {
        match *happening {
            Happening::Update(item, key, bytes) => {
                let value = format!("{number:0>bytes$}");
                let mut fields = vec![("n", Some(value.as_str()))];
                if mode == "COMMAND" {
                    fields.extend([("key", Some(KEYS[key])), ("command", Some("UPDATE"))]);
                }
                let (snapshot, fields) = (false, fields.as_slice());
                world.say(
                    DataAdapterId(0),
                    ITEMS[item],
                    Say::Update { snapshot, fields },
                );
            }
            Happening::Wait(millis) => world.advance(Duration::from_millis(millis)),
            Happening::Stall => world.stall(wire),
            Happening::Resume => world.resume(wire),
            Happening::Frequency(hz) => world.send(
                wire,
                format!(
                    "control\r\nLS_reqId=2&LS_op=reconf&LS_subId=1&LS_requested_max_frequency={}",
                    hertz(hz)
                ),
            ),
            Happening::Bandwidth(kbps) => world.send(
                wire,
                format!("control\r\nLS_reqId=3&LS_op=constrain&LS_requested_max_bandwidth={kbps}"),
            ),
        }
        world.settle();
    }
    world.resume(wire);
    world.advance(Duration::from_secs(60));
    periods(&mut world, wire, mode)
}

/// In quarters, so that there are frequencies below one.
fn hertz(quarters: u32) -> f64 {
    f64::from(quarters) / 4.0
}

fn periods(world: &mut World, client: WireId, mode: &str) -> Vec<Period> {
    let fields = if mode == "COMMAND" { 3 } else { 1 };
    let mut items = vec![FieldValues::new(fields); ITEMS.len()];
    let mut periods = vec![Period::default()];
    for (wire, written, line) in world.lines_in_time() {
        assert_eq!(wire, client);
        let period = periods.last_mut().unwrap();
        let (hz, kbps) = (period.hz, period.kbps);
        match Line::parse(&line).unwrap() {
            Line::Update { item, values, .. } => {
                let known = &mut items[item as usize - 1];
                known.apply(values).unwrap();
                let key = known.get(1).unwrap_or_default().to_owned();
                let held = matches!(known.get(2), None | Some("UPDATE"));
                period.updates.push(Update {
                    written,
                    bytes: line.len() + "\r\n".len(),
                    of: held.then_some((item, key)),
                });
            }
            Line::Conf { frequency_hz, .. } => periods.push(Period {
                hz: frequency_hz,
                kbps,
                updates: Vec::new(),
            }),
            Line::Cons(granted) => periods.push(Period {
                hz,
                kbps: match granted {
                    GrantedBandwidth::Limited(kbps) => Some(kbps),
                    GrantedBandwidth::Unlimited | GrantedBandwidth::Unmanaged => None,
                },
                updates: Vec::new(),
            }),
            _ => {}
        }
    }
    periods
}

/// Looks at the window from each update to each later one.
fn check(period: &Period) -> Result<(), TestCaseError> {
    for (from, first) in period.updates.iter().enumerate() {
        let mut bytes = 0;
        let mut counts: BTreeMap<&(u32, String), f64> = BTreeMap::new();
        for last in &period.updates[from..] {
            let window_s = last.written.since(first.written).as_secs_f64();
            if let Some(kbps) = period.kbps {
                // The last line may go out with the last byte that is free.
                let allowed = kbps * 125.0 * (window_s + BURST_S) + 1.0;
                prop_assert!(
                    f64::from(bytes) <= allowed,
                    "{bytes} bytes in {window_s} s at {kbps} kbit/s"
                );
                bytes += u32::try_from(last.bytes).unwrap();
            }
            if let (Some(hz), Some(of)) = (period.hz, &last.of) {
                let count = counts.entry(of).or_default();
                *count += 1.0;
                prop_assert!(
                    *count <= window_s * hz + 1.0 + 1e-6,
                    "{count} updates of {of:?} in {window_s} s at {hz} Hz"
                );
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_window_has_more_than_is_granted(
        schedule in prop::collection::vec(happening(), 1..200),
        hz in 1u32..40,
        kbps in 1u32..64,
        delay_ms in prop::sample::select(vec![0u64, 30]),
    ) {
        for mode in ["MERGE", "DISTINCT", "COMMAND"] {
            let periods = play(mode, &schedule, hz, kbps, delay_ms);
            prop_assert!(periods.iter().any(|period| period.hz.is_some() && period.kbps.is_some()));
            periods.iter().try_for_each(check)?;
        }
    }
}
