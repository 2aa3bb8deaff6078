//! The machine's cores as `/sys/devices/system/cpu` describes them, and pinning a thread to one.
//!
//! A reader of a handful of small files instead of a topology library: the libraries either want a C library or
//! know nothing of NUMA nodes and isolated cores, and a push server asks only which cores exist, which of them are
//! two threads of one physical core, and which were set aside for it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// One logical core that is online.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Core {
    /// The kernel's number.
    pub id: usize,
    /// Every logical core of the same physical core, this one included, in ascending order.
    pub siblings: Vec<usize>,
    /// The NUMA node whose memory is near; 0 where the kernel names none.
    pub node: usize,
    /// Whether the kernel's scheduler leaves it alone (`isolcpus=`).
    pub isolated: bool,
    /// Whether this process may run there (affinity mask and cpuset).
    pub allowed: bool,
}

/// The cores that are online, in ascending order of their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// The cores.
    pub cores: Vec<Core>,
    /// How many threads can run at once: the allowed cores, or fewer where a cgroup quota says so.
    pub parallelism: usize,
}

impl Topology {
    /// Reads the machine this process runs on.
    pub fn read() -> io::Result<Self> {
        let mask = sched_getaffinity(Pid::from_raw(0))?;
        let allowed = |core| mask.is_set(core).unwrap_or(false);
        let mut topology = Self::read_from(Path::new("/sys/devices/system/cpu"), allowed)?;
        // The standard library takes cgroup quotas into account, which the files read here know nothing of.
        if let Ok(parallelism) = std::thread::available_parallelism() {
            topology.parallelism = topology.parallelism.min(parallelism.get());
        }
        Ok(topology)
    }

    /// Reads a directory laid out as `/sys/devices/system/cpu`. Only `online` has to be there: containers and
    /// virtual machines often leave out the rest.
    pub fn read_from(directory: &Path, allowed: impl Fn(usize) -> bool) -> io::Result<Self> {
        let read_list = |path: &Path| parse_core_list(&fs::read_to_string(path)?);
        let online = read_list(&directory.join("online"))?;
        let isolated = read_list(&directory.join("isolated")).unwrap_or_default();
        let cores: Vec<Core> = online
            .into_iter()
            .map(|id| {
                let directory = directory.join(format!("cpu{id}"));
                let siblings = read_list(&directory.join("topology/thread_siblings_list"));
                Core {
                    id,
                    siblings: siblings.unwrap_or_else(|_| vec![id]),
                    node: node_of(&directory).unwrap_or(0),
                    isolated: isolated.contains(&id),
                    allowed: allowed(id),
                }
            })
            .collect();
        let parallelism = cores.iter().filter(|core| core.allowed).count().max(1);
        Ok(Self { cores, parallelism })
    }

    /// The core with this number, if it is online.
    pub fn core(&self, id: usize) -> Option<&Core> {
        self.cores.iter().find(|core| core.id == id)
    }

    /// Chooses `count` cores for busy threads: isolated before others, one per physical core before second
    /// threads of the same one, and together on one NUMA node as far as it reaches, because the threads exchange
    /// memory all the time. `None` if this process may not run on so many.
    pub fn choose(&self, count: usize) -> Option<Vec<usize>> {
        let mut candidates: Vec<&Core> = self.cores.iter().filter(|core| core.allowed).collect();
        if candidates.len() < count {
            return None;
        }
        let usable_on = |node| candidates.iter().filter(|core| core.node == node).count();
        // The first node that holds them all, else the largest one first.
        let nodes: BTreeSet<usize> = candidates.iter().map(|core| core.node).collect();
        let home = nodes
            .iter()
            .copied()
            .find(|&node| usable_on(node) >= count)
            .or_else(|| {
                nodes
                    .iter()
                    .copied()
                    .max_by_key(|&node| (usable_on(node), std::cmp::Reverse(node)))
            });
        candidates.sort_by_key(|core| {
            let second_thread = core.siblings.first() != Some(&core.id);
            (
                !core.isolated,
                Some(core.node) != home,
                second_thread,
                core.node,
                core.id,
            )
        });
        Some(candidates[..count].iter().map(|core| core.id).collect())
    }
}

/// Parses the kernel's notation of a set of cores, such as `0-3,8,10-11`; empty text is the empty set.
pub fn parse_core_list(text: &str) -> io::Result<Vec<usize>> {
    let bad = |part: &str| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("`{part}` is not a range of cores"),
        )
    };
    let number = |text: &str, part: &str| text.trim().parse::<usize>().map_err(|_| bad(part));
    let mut cores = BTreeSet::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first, part)?, number(last, part)?);
        if first > last || last >= CORE_NUMBER_END {
            return Err(bad(part));
        }
        cores.extend(first..=last);
    }
    Ok(cores.into_iter().collect())
}

/// Binds the calling thread to one core. Threads that it starts afterwards inherit that.
pub fn pin_current_thread(core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// The calling thread gives way to the others of its core. Beside the reactor's calls, as it is not safe code either.
pub(crate) use crate::reactor::give_way;

/// The NUMA node is shown as a link `node<N>` in the core's directory.
fn node_of(directory: &Path) -> Option<usize> {
    fs::read_dir(directory).ok()?.flatten().find_map(|entry| {
        entry
            .file_name()
            .to_str()?
            .strip_prefix("node")?
            .parse()
            .ok()
    })
}

/// Larger than any kernel's `NR_CPUS` (8,192 at most today): a bound on what a garbled file can make us allocate.
const CORE_NUMBER_END: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn core_lists_are_read_as_the_kernel_writes_them() {
        assert_eq!(
            parse_core_list("0-3,8,10-11\n").unwrap(),
            [0, 1, 2, 3, 8, 10, 11]
        );
        assert_eq!(parse_core_list("\n").unwrap(), Vec::<usize>::new());
        assert_eq!(parse_core_list("5").unwrap(), [5]);
        for bad in ["x", "3-1", "1-", "-", "0-99999999999", "1;2"] {
            assert!(parse_core_list(bad).is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn a_machine_is_read_from_its_files() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("online", "0-3\n");
        write("isolated", "2-3\n");
        for (core, siblings) in [(0, "0,2"), (1, "1,3"), (2, "0,2")] {
            write(
                &format!("cpu{core}/topology/thread_siblings_list"),
                siblings,
            );
        }
        fs::create_dir_all(root.path().join("cpu1/node1")).unwrap();

        let topology = Topology::read_from(root.path(), |core| core != 3).unwrap();
        assert_eq!(topology.parallelism, 3);
        assert_eq!(topology.cores.len(), 4);
        assert_eq!(topology.core(2).unwrap().siblings, [0, 2]);
        assert!(topology.core(2).unwrap().isolated);
        assert_eq!(topology.core(1).unwrap().node, 1);
        assert_eq!(
            topology.core(3).unwrap().siblings,
            [3],
            "no file: the core stands alone"
        );
        assert!(!topology.core(3).unwrap().allowed);
        assert_eq!(topology.core(4), None);
    }

    /// Eight logical cores: physical cores {0,4} {1,5} on node 0, {2,6} {3,7} on node 1.
    fn two_nodes() -> Topology {
        let core = |id: usize| Core {
            id,
            siblings: vec![id % 4, id % 4 + 4],
            node: id % 4 / 2,
            isolated: false,
            allowed: true,
        };
        Topology {
            cores: (0..8).map(core).collect(),
            parallelism: 8,
        }
    }

    #[test]
    fn physical_cores_of_one_node_are_chosen_first() {
        let mut topology = two_nodes();
        assert_eq!(topology.choose(2).unwrap(), [0, 1]);
        assert_eq!(topology.choose(4).unwrap(), [0, 1, 4, 5]);
        assert_eq!(topology.choose(5).unwrap(), [0, 1, 4, 5, 2]);
        assert_eq!(topology.choose(9), None);

        topology.cores[6].isolated = true;
        assert_eq!(topology.choose(2).unwrap(), [6, 0]);
        topology.cores[0].allowed = false;
        assert_eq!(topology.choose(3).unwrap(), [6, 1, 4]);
    }

    #[test]
    fn a_thread_stays_where_it_was_pinned() {
        let core = Topology::read().unwrap().choose(1).unwrap()[0];
        std::thread::spawn(move || {
            pin_current_thread(core).unwrap();
            let mask = sched_getaffinity(Pid::from_raw(0)).unwrap();
            let allowed: Vec<usize> = (0..CpuSet::count())
                .filter(|&n| mask.is_set(n).unwrap())
                .collect();
            assert_eq!(allowed, [core]);
        })
        .join()
        .unwrap();
        assert!(pin_current_thread(CORE_NUMBER_END).is_err());
    }
}
