//! The rings between cores: everything that crosses from one thread to another. The map is in [`super`].

use super::park::Park;
use crossbeam::utils::CachePadded;
use engine::ids::ShardId;
use engine::ingest::demand::Demand;
use engine::ingest::fanout::Rings;
use engine::ingest::record;
use engine::metadata::{Ask, Word};
use engine::shard::{MovedRequest, Peer, ShardMessage};
use rtrb::{Consumer, Producer, RingBuffer};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::net::connection::{Caller, Connection};
use crate::net::response::Responding;

/// Sizes of the rings.
#[derive(Clone, Copy, Debug)]
pub struct Capacities {
    /// Bytes of each data ring.
    pub data_bytes: usize,
    /// Entries of each other ring.
    pub messages: usize,
}

/// What the control core tells every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Close everything and end.
    Stop,
    /// Open no sessions, or open them again.
    Block(bool),
}

/// What shards send each other.
pub enum ShardPost {
    /// Something for the engine.
    Message(ShardMessage),
    /// A connection whose session lives at the receiver.
    Connection(Box<MovedConnection>),
}

/// A connection on its way to another shard.
pub struct MovedConnection {
    /// The socket.
    pub socket: TcpStream,
    /// Its protocol state, with the bytes that were read and not used.
    pub connection: Connection,
    /// The other end's address, as its first proxy told it.
    pub address: SocketAddr,
    /// What its last request said of who sent it.
    pub caller: Caller,
    /// Who is at the other end.
    pub peer: Peer,
    /// The response that it is owed, if it speaks HTTP.
    pub response: Option<Responding>,
    /// Answers that it is still owed.
    pub lines: Box<[u8]>,
    /// The request that made it move.
    pub request: MovedRequest,
}

/// Ingest's ends.
pub struct IngestRings {
    /// The data rings, by shard.
    pub data: DataWriter,
    /// What each shard wants.
    pub demand: Vec<Consumer<Demand>>,
    /// Whether any shard has posted more.
    pub demands: DemandWatch,
    /// What each shard asks.
    pub ask: Vec<Consumer<Ask>>,
    /// The answers, and what adapters want of their own accord.
    pub answer: Vec<Producer<Word>>,
    /// From the control core.
    pub command: Consumer<Command>,
    /// Ingest's own sleep.
    pub park: Arc<Park>,
}

/// Ingest's view of a count that all shards raise: a look costs one load, so that it can be taken before each event.
pub struct DemandWatch {
    posted: Arc<CachePadded<AtomicU32>>,
    seen: u32,
}

/// A shard's end of it.
#[derive(Clone)]
pub struct DemandFlag(Arc<CachePadded<AtomicU32>>);

impl DemandWatch {
    fn new() -> (DemandFlag, Self) {
        let posted = Arc::new(CachePadded::new(AtomicU32::new(0)));
        let flag = DemandFlag(Arc::clone(&posted));
        (flag, Self { posted, seen: 0 })
    }

    /// Whether demands have come since the last time that this said so. What was posted before something else that the
    /// caller has seen is not missed.
    #[inline]
    pub fn rises(&mut self) -> bool {
        let posted = self.posted.load(Ordering::Acquire);
        std::mem::replace(&mut self.seen, posted) != posted
    }
}

impl DemandFlag {
    /// Says that there is something new in the shard's demand ring.
    pub fn raise(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

/// One shard's ends.
pub struct ShardRings {
    /// Which shard.
    pub shard: ShardId,
    /// Records of ingest.
    pub data: DataReader,
    /// To ingest: what items are wanted.
    pub demand: Producer<Demand>,
    /// To be raised when there is something new in it.
    pub demands: DemandFlag,
    /// To ingest: questions for the metadata adapter.
    pub ask: Producer<Ask>,
    /// From ingest: their answers, and what adapters want of their own accord.
    pub answer: Consumer<Word>,
    /// To each other shard; `None` for itself.
    pub to_shards: Vec<Option<Producer<ShardPost>>>,
    /// From each other shard; `None` for itself.
    pub from_shards: Vec<Option<Consumer<ShardPost>>>,
    /// From the control core.
    pub command: Consumer<Command>,
    /// The shard's own sleep.
    pub park: Arc<Park>,
    /// Ingest's sleep, to end it.
    pub ingest: Arc<Park>,
    /// Every shard's sleep, to end it.
    pub shards: Vec<Arc<Park>>,
}

/// The control core's ends: each core's commands with that core's sleep, ingest first.
pub struct ControlRings {
    /// One per core.
    pub cores: Vec<(Producer<Command>, Arc<Park>)>,
}

/// Makes all the rings of a server with `shards` shards.
pub fn rings(
    shards: usize,
    capacities: Capacities,
) -> (IngestRings, Vec<ShardRings>, ControlRings) {
    let ingest_park = Arc::new(Park::new());
    let parks: Vec<_> = std::iter::repeat_with(|| Arc::new(Park::new()))
        .take(shards)
        .collect();
    let (ingest_command, command) = RingBuffer::new(COMMANDS);
    let mut control = ControlRings {
        cores: vec![(ingest_command, Arc::clone(&ingest_park))],
    };
    let (demand_flag, demands) = DemandWatch::new();
    let mut ingest = IngestRings {
        data: DataWriter { rings: Vec::new() },
        demand: Vec::new(),
        demands,
        ask: Vec::new(),
        answer: Vec::new(),
        command,
        park: Arc::clone(&ingest_park),
    };
    let mut ends = Vec::new();
    for (index, park) in parks.iter().enumerate() {
        let (data_in, data_out) = RingBuffer::new(capacities.data_bytes);
        let (demand_in, demand_out) = RingBuffer::new(capacities.messages);
        let (ask_in, ask_out) = RingBuffer::new(capacities.messages);
        let (answer_in, answer_out) = RingBuffer::new(capacities.messages);
        let (command_in, command_out) = RingBuffer::new(COMMANDS);
        ingest.data.rings.push(DataRing {
            ring: data_in,
            staged: Vec::new(),
            room: capacities.data_bytes,
            reader: Arc::clone(park),
        });
        ingest.demand.push(demand_out);
        ingest.ask.push(ask_out);
        ingest.answer.push(answer_in);
        control.cores.push((command_in, Arc::clone(park)));
        ends.push(ShardRings {
            shard: ShardId(u16::try_from(index).expect("shards are few")),
            data: DataReader {
                ring: data_out,
                straddling: Vec::new(),
            },
            demand: demand_in,
            demands: demand_flag.clone(),
            ask: ask_in,
            answer: answer_out,
            to_shards: Vec::new(),
            from_shards: (0..shards).map(|_| None).collect(),
            command: command_out,
            park: Arc::clone(park),
            ingest: Arc::clone(&ingest_park),
            shards: parks.clone(),
        });
    }
    for from in 0..shards {
        for to in 0..shards {
            let (writer, reader) = if from == to {
                (None, None)
            } else {
                Some(RingBuffer::new(capacities.messages)).unzip()
            };
            ends[from].to_shards.push(writer);
            ends[to].from_shards[from] = reader;
        }
    }
    (ingest, ends, control)
}

/// More commands than this never wait: a core reads them every turn.
const COMMANDS: usize = 16;

/// Ingest's ends of the data rings. Records are staged and published once per turn: one copy and one release store
/// per shard, however many events the turn had.
pub struct DataWriter {
    rings: Vec<DataRing>,
}

struct DataRing {
    ring: Producer<u8>,
    staged: Vec<u8>,
    /// Free bytes of the ring when last asked, less what is staged.
    room: usize,
    reader: Arc<Park>,
}

impl DataWriter {
    /// Asks anew how much room the rings have. Once per turn, since it touches what the readers write.
    pub fn refresh(&mut self) {
        for ring in &mut self.rings {
            ring.room = ring.ring.slots() - ring.staged.len();
        }
    }

    /// Ends the sleep of a shard for which something else was published.
    pub fn wake(&self, shard: ShardId) {
        self.rings[usize::from(shard.0)].reader.wake_if_parked();
    }

    /// Publishes what is staged, and wakes the readers that sleep.
    pub fn commit(&mut self) {
        for ring in &mut self.rings {
            if ring.staged.is_empty() {
                continue;
            }
            ring.ring
                .push_entire_slice(&ring.staged)
                .expect("staged within the room");
            ring.staged.clear();
            ring.reader.wake_if_parked();
        }
    }
}

impl Rings for DataWriter {
    fn room(&self, shard: ShardId) -> usize {
        self.rings[usize::from(shard.0)].room
    }

    fn write(&mut self, shard: ShardId, record: &[u8]) {
        let ring = &mut self.rings[usize::from(shard.0)];
        ring.staged.extend_from_slice(record);
        ring.room -= record.len();
    }
}

/// A shard's end of its data ring.
pub struct DataReader {
    ring: Consumer<u8>,
    /// A record that lies across the end of the ring's memory, put together.
    straddling: Vec<u8>,
}

impl DataReader {
    /// Whether there is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// Lends what is there, at most `bytes_max` (which must hold the largest record), as up to three runs of whole
    /// records. Returns the bytes read.
    pub fn drain(&mut self, bytes_max: usize, mut take: impl FnMut(&[u8])) -> usize {
        let Ok(chunk) = self.ring.read_chunk(self.ring.slots().min(bytes_max)) else {
            return 0;
        };
        let (head, tail) = chunk.as_slices();
        let mut used = record::split(head);
        if used > 0 {
            take(&head[..used]);
        }
        // A record may lie across the end of the ring's memory, even with its length: it is put together.
        let rest = &head[used..];
        let mut tail = tail;
        if !rest.is_empty() {
            self.straddling.clear();
            self.straddling.extend_from_slice(rest);
            self.straddling
                .extend_from_slice(&tail[..tail.len().min(record::HEAD_BYTES)]);
            let missing = record::length(&self.straddling).map(|length| length - rest.len());
            if let Some(missing) = missing.filter(|missing| *missing <= tail.len()) {
                self.straddling.truncate(rest.len());
                self.straddling.extend_from_slice(&tail[..missing]);
                take(&self.straddling);
                used += self.straddling.len();
                tail = &tail[missing..];
            } else {
                tail = &[]; // `bytes_max` has cut it: next time
            }
        }
        let second = record::split(tail);
        if second > 0 {
            take(&tail[..second]);
            used += second;
        }
        chunk.commit(used);
        used
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::ingest::record::{Kind, Writer};
    use engine::time::Instant;

    /// Records of all sizes through a small ring, so that they lie across its end in every way; read with a bound that
    /// cuts them.
    #[test]
    fn records_survive_the_end_of_the_ring() {
        let (mut ingest, mut shards, _) = rings(
            1,
            Capacities {
                data_bytes: 331,
                messages: 1,
            },
        );
        let reader = &mut shards[0].data;
        let (mut written, mut seen) = (0u64, 0u64);
        let mut scratch = Vec::new();
        while seen < 5_000 {
            ingest.data.refresh();
            loop {
                let value = vec![b'x'; (written * 7 % 90) as usize];
                let mut writer = Writer::start(&mut scratch, Kind::Update, written, Instant::ZERO);
                writer.value(1, Some(&value));
                writer.finish();
                if ingest.data.room(ShardId(0)) < scratch.len() {
                    break;
                }
                ingest.data.write(ShardId(0), &scratch);
                written += 1;
            }
            ingest.data.commit();
            let bound = 130 + (written % 200) as usize;
            while reader.drain(bound, |records| {
                for record in record::read(records) {
                    assert_eq!(record.seq, seen);
                    let (_, value) = record.values().next().unwrap();
                    assert_eq!(value.unwrap().len() as u64, seen * 7 % 90);
                    seen += 1;
                }
            }) > 0
            {}
            assert!(reader.is_empty());
            assert_eq!(seen, written);
        }
    }
}
