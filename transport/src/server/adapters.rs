//! The adapters of a plan, started: each in its place, on a thread of its own or on those that it shares.

use crate::adapter::data::{self, DataAdapter};
use crate::adapter::demo::Demo;
use crate::adapter::feed::FeedCapacity;
use crate::adapter::lines::Lines;
use crate::adapter::literal::Literal;
use crate::adapter::metadata::{MetadataAdapter, MetadataOptions, desk};
use crate::adapter::remote::{MetadataInbox, RemoteSet, Remotes};
use crate::adapter::replay::{Replay, ReplayConfig};
use crate::adapter::{self, Manners, RunningAdapter, Source};
use crate::config::plan::{
    AdapterSetPlan, DataAdapterPlan, DataKind, MetadataPlan, Pace, RemotePlan,
};
use crate::runtime::park::Park;
use Place::{InProcess, Remote};
use engine::metadata::literal::Literal as Everything;
use engine::metadata::{AdapterSetId, AdapterSets};
use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;

/// Bytes of the ring between a data adapter and ingest: some tens of thousands of events. (guess)
const FEED_RING_BYTES: usize = 4 << 20;
/// Subscriptions that a data adapter may be behind with before ingest keeps them.
const FEED_COMMANDS: usize = 4096;

/// The adapters that a program brings along, by the names that its plan has for them.
#[derive(Default)]
pub(crate) struct OwnAdapters {
    /// By adapter set and name.
    pub data: HashMap<(String, String), Box<dyn DataAdapter>>,
    /// By adapter set.
    pub metadata: HashMap<String, OwnMetadata>,
}

/// A metadata adapter that a program brings along.
pub(crate) struct OwnMetadata {
    pub adapter: Box<dyn MetadataAdapter>,
    pub options: MetadataOptions,
}

/// The adapters of all sets.
pub(super) struct Adapters {
    pub sets: AdapterSets,
    /// The data adapters by their numbers.
    pub running: Vec<RunningAdapter>,
    /// The metadata adapters that are asked, with the sets that they decide for.
    pub metadata: Vec<(AdapterSetId, MetadataInbox)>,
    /// The desks of those in this process, each to be served by a thread.
    pub desks: Vec<desk::Start>,
    /// Those in other processes, to be served by a thread.
    pub remotes: Remotes,
}

pub(super) fn start_adapters(
    plans: &[AdapterSetPlan],
    mut own: OwnAdapters,
    ingest: &Arc<Park>,
    manners: Manners,
) -> Result<Adapters, Box<dyn Error>> {
    let mut sets = AdapterSets::default();
    let mut running = Vec::new();
    let mut metadata = Vec::new();
    let mut desks = Vec::new();
    let mut remotes = Remotes::default();
    for (index, set) in plans.iter().enumerate() {
        let names: Vec<&str> = set.data.iter().map(|data| data.name.as_str()).collect();
        match &set.metadata {
            MetadataPlan::Own | MetadataPlan::Rules(_) => {
                let ids = sets.add_elsewhere(&set.name, &names);
                let id = set_id(index);
                let data = names.iter().map(|name| (*name).into()).zip(ids).collect();
                let own = match &set.metadata {
                    MetadataPlan::Rules(rules) => OwnMetadata {
                        adapter: Box::new(Literal::new((**rules).clone())?),
                        options: Literal::options(),
                    },
                    _ => own
                        .metadata
                        .remove(&set.name)
                        .expect("the plan names what is there"),
                };
                let place = data::Place {
                    adapter_set: set.name.clone(),
                    data_adapter: None,
                };
                let ingest = Arc::clone(ingest);
                let wake = move || ingest.wake_if_parked();
                let (inbox, start) = desk::start(own.adapter, place, id, data, own.options, wake)?;
                metadata.push((id, inbox));
                desks.push(start);
            }
            MetadataPlan::Literal => {
                sets.add(&set.name, Everything::default(), &names);
            }
            MetadataPlan::Remote(plan) => {
                let ids = sets.add_elsewhere(&set.name, &names);
                let id = set_id(index);
                let adapter_set = RemoteSet {
                    id,
                    name: set.name.clone(),
                    data: names.iter().map(|name| (*name).into()).zip(ids).collect(),
                };
                let ingest = Arc::clone(ingest);
                let wake = move || ingest.wake_if_parked();
                let inbox = remotes.add_metadata(adapter_set, plan, wake)?;
                metadata.push((id, inbox));
            }
        }
        if let Some(name) = &set.status {
            sets.add_status(set_id(index), name);
        }
        for data in &set.data {
            let ingest = Arc::clone(ingest);
            let capacity = FeedCapacity {
                ring_bytes: FEED_RING_BYTES,
                commands: FEED_COMMANDS,
            };
            let wake = move || ingest.wake_if_parked();
            if matches!(data.kind, DataKind::Own) {
                let adapter = own.data.remove(&(set.name.clone(), data.name.clone()));
                let adapter = adapter.expect("the plan names what is there");
                let place = data::Place {
                    adapter_set: set.name.clone(),
                    data_adapter: Some(data.name.clone()),
                };
                running.push(data::start(adapter, place, capacity, wake)?);
                continue;
            }
            running.push(match data_adapter(data)? {
                InProcess(adapter) => adapter::spawn(&data.name, adapter, capacity, manners, wake)?,
                Remote(plan) => {
                    let first = set.metadata_first;
                    remotes.add_data(&set.name, &data.name, plan, first, capacity, wake)?
                }
            });
        }
    }
    Ok(Adapters {
        sets,
        running,
        metadata,
        desks,
        remotes,
    })
}

pub(super) fn set_id(index: usize) -> AdapterSetId {
    AdapterSetId(u16::try_from(index).expect("a configuration has few sets"))
}

/// Where a data adapter runs.
enum Place<'p> {
    InProcess(Arc<dyn Source>),
    Remote(&'p RemotePlan),
}

fn data_adapter(plan: &DataAdapterPlan) -> Result<Place<'_>, Box<dyn Error>> {
    Ok(InProcess(match &plan.kind {
        DataKind::Remote(plan) => return Ok(Remote(plan)),
        DataKind::Own => {
            return Err(format!("{} is for a program to bring along", plan.name).into());
        }
        DataKind::Demo { rate } => Arc::new(Demo::new(*rate, fastrand::u64(..))?),
        DataKind::Lines { address } => {
            let lines = Lines::bind(address.clone())
                .map_err(|error| format!("data adapter {} at {address}: {error}", plan.name))?;
            tracing::info!(
                adapter = plan.name,
                "publishers connect to {}",
                lines.address()
            );
            Arc::new(lines)
        }
        DataKind::Replay { file, pace, looped } => {
            let pace = match pace {
                Pace::Speed(factor) if factor.is_infinite() => adapter::replay::Pace::Unlimited,
                Pace::Speed(factor) => adapter::replay::Pace::Speed(*factor),
                Pace::Rate(hz) => adapter::replay::Pace::RateHz(*hz),
            };
            Arc::new(Replay::open(ReplayConfig {
                path: file.clone(),
                pace,
                looped: *looped,
            })?)
        }
    }))
}
