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
use engine::ids::DataAdapterId;
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
    own: OwnAdapters,
    ingest: &Arc<Park>,
    manners: Manners,
) -> Result<Adapters, Box<dyn Error>> {
    let mut start = Start {
        adapters: Adapters {
            sets: AdapterSets::default(),
            running: Vec::new(),
            metadata: Vec::new(),
            desks: Vec::new(),
            remotes: Remotes::default(),
        },
        own,
        ingest,
        manners,
    };
    for (index, set) in plans.iter().enumerate() {
        let id = set_id(index);
        start.metadata(id, set)?;
        if let Some(name) = &set.status {
            start.adapters.sets.add_status(id, name);
        }
        for data in &set.data {
            let running = start.data(set, data)?;
            start.adapters.running.push(running);
        }
    }
    Ok(start.adapters)
}

/// What is started so far, and what the next ones need.
struct Start<'s> {
    adapters: Adapters,
    own: OwnAdapters,
    ingest: &'s Arc<Park>,
    manners: Manners,
}

impl Start<'_> {
    /// Wakes ingest.
    fn wake(&self) -> impl Fn() + Send + Sync + 'static {
        let ingest = Arc::clone(self.ingest);
        move || ingest.wake_if_parked()
    }

    /// Whoever decides for a set.
    fn metadata(&mut self, id: AdapterSetId, set: &AdapterSetPlan) -> Result<(), Box<dyn Error>> {
        match &set.metadata {
            MetadataPlan::Literal => {
                let names: Vec<&str> = names(set).collect();
                let sets = &mut self.adapters.sets;
                sets.add(&set.name, Everything::default(), &names);
            }
            MetadataPlan::Remote(plan) => {
                let adapter_set = RemoteSet {
                    id,
                    name: set.name.clone(),
                    data: self.add_elsewhere(set),
                };
                let wake = self.wake();
                let remotes = &mut self.adapters.remotes;
                let inbox = remotes.add_metadata(adapter_set, plan, wake)?;
                self.adapters.metadata.push((id, inbox));
            }
            MetadataPlan::Rules(rules) => {
                let own = OwnMetadata {
                    adapter: Box::new(Literal::new((**rules).clone())?),
                    options: Literal::options(),
                };
                self.metadata_here(id, set, own)?;
            }
            MetadataPlan::Own => {
                let own = self.own.metadata.remove(&set.name);
                self.metadata_here(id, set, own.expect("the plan names what is there"))?;
            }
        }
        Ok(())
    }

    /// A metadata adapter of this process.
    fn metadata_here(
        &mut self,
        id: AdapterSetId,
        set: &AdapterSetPlan,
        own: OwnMetadata,
    ) -> Result<(), String> {
        let data = self.add_elsewhere(set);
        let place = data::Place {
            adapter_set: set.name.clone(),
            data_adapter: None,
        };
        let wake = self.wake();
        let (inbox, start) = desk::start(own.adapter, place, id, data, own.options, wake)?;
        self.adapters.metadata.push((id, inbox));
        self.adapters.desks.push(start);
        Ok(())
    }

    /// A set for which somebody else decides; the numbers of its data adapters.
    fn add_elsewhere(&mut self, set: &AdapterSetPlan) -> Vec<(Box<str>, DataAdapterId)> {
        let names: Vec<&str> = names(set).collect();
        let ids = self.adapters.sets.add_elsewhere(&set.name, &names);
        names.into_iter().map(Into::into).zip(ids).collect()
    }

    fn data(
        &mut self,
        set: &AdapterSetPlan,
        data: &DataAdapterPlan,
    ) -> Result<RunningAdapter, Box<dyn Error>> {
        let capacity = FeedCapacity {
            ring_bytes: FEED_RING_BYTES,
            commands: FEED_COMMANDS,
        };
        let wake = self.wake();
        if matches!(data.kind, DataKind::Own) {
            let own = &mut self.own.data;
            let adapter = own.remove(&(set.name.clone(), data.name.clone()));
            let adapter = adapter.expect("the plan names what is there");
            let place = data::Place {
                adapter_set: set.name.clone(),
                data_adapter: Some(data.name.clone()),
            };
            return Ok(data::start(adapter, place, capacity, wake)?);
        }
        Ok(match data_adapter(data)? {
            InProcess(adapter) => {
                adapter::spawn(&data.name, adapter, capacity, self.manners, wake)?
            }
            Remote(plan) => {
                let (first, remotes) = (set.metadata_first, &mut self.adapters.remotes);
                remotes.add_data(&set.name, &data.name, plan, first, capacity, wake)?
            }
        })
    }
}

/// The names of a set's data adapters.
fn names(set: &AdapterSetPlan) -> impl Iterator<Item = &str> {
    set.data.iter().map(|data| data.name.as_str())
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
