//! The two rings between ingest and the proxy of a metadata adapter.
//!
//! | Ring | When full |
//! |---|---|
//! | questions and notices | a question is refused at once, as busy; notices wait at ingest's end: there is one for each session and subscription at most |
//! | answers and orders | kept by the proxy, whose shards have a bounded number of questions open |

use crate::runtime::host::HostWaker;
use engine::ids::ShardId;
use engine::metadata::{Answer, Ask, Question, Word};
use engine::tlcp::cause::Refusal;
use rtrb::{Consumer, Producer, RingBuffer};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// Questions on their way. More than shards ask in a turn of ingest. (guess)
const QUESTIONS: usize = 8192;
/// Answers on their way. (guess)
const WORDS: usize = 8192;

/// What a proxy is told.
pub(in crate::adapter) enum Told {
    /// Find an answer.
    Ask(ShardId, Ask),
    /// Take note.
    Note(Question),
}

/// Ingest's end. Dropping it stops the proxy.
pub struct MetadataInbox {
    questions: Producer<Told>,
    words: Consumer<(ShardId, Word)>,
    proxy: HostWaker,
    stop: Arc<AtomicBool>,
    /// Notices that the ring has no room for.
    notices: VecDeque<Told>,
}

/// The proxy's end.
pub(in crate::adapter) struct MetadataOutbox {
    questions: Consumer<Told>,
    words: Producer<(ShardId, Word)>,
    waiting: VecDeque<(ShardId, Word)>,
    wake_ingest: Box<dyn Fn()>,
    stop: Arc<AtomicBool>,
}

/// The proxy's end on its way to its thread.
pub(in crate::adapter) struct OutboxParts {
    questions: Consumer<Told>,
    words: Producer<(ShardId, Word)>,
    wake_ingest: Box<dyn Fn() + Send>,
    stop: Arc<AtomicBool>,
}

pub(in crate::adapter) fn asks(
    proxy: HostWaker,
    wake_ingest: impl Fn() + Send + 'static,
) -> (MetadataInbox, OutboxParts) {
    let (question_writer, question_reader) = RingBuffer::new(QUESTIONS);
    let (word_writer, word_reader) = RingBuffer::new(WORDS);
    let stop = Arc::new(AtomicBool::new(false));
    let inbox = MetadataInbox {
        questions: question_writer,
        words: word_reader,
        proxy,
        stop: Arc::clone(&stop),
        notices: VecDeque::new(),
    };
    let parts = OutboxParts {
        questions: question_reader,
        words: word_writer,
        wake_ingest: Box::new(wake_ingest),
        stop,
    };
    (inbox, parts)
}

impl MetadataInbox {
    /// Passes a question on. If there is no room, this is the answer.
    pub fn ask(&mut self, shard: ShardId, ask: Ask) -> Option<Answer> {
        self.flush();
        match self.questions.push(Told::Ask(shard, ask)) {
            Ok(()) => {
                self.proxy.wake();
                None
            }
            Err(rtrb::PushError::Full(Told::Ask(_, ask))) => {
                let refusal = match ask.question {
                    Question::OpenSession { .. } => Refusal::authentication_unavailable(),
                    Question::Message { .. } => Refusal::message_adapter_failed(),
                    _ => Refusal::adapter_failed(),
                };
                Some(Answer {
                    token: ask.token,
                    result: Err(refusal.with_text("The Metadata Adapter has too much to do")),
                })
            }
            Err(rtrb::PushError::Full(Told::Note(_))) => None,
        }
    }

    /// Passes a notice on; other questions are none of its business.
    pub fn note(&mut self, question: &Question) {
        if !matches!(
            question,
            Question::SessionClosed { .. } | Question::Unsubscribed { .. }
        ) {
            return;
        }
        self.notices.push_back(Told::Note(question.clone()));
        self.flush();
    }

    /// Passes on what waits, as far as there is room.
    fn flush(&mut self) {
        let mut moved = false;
        while let Some(told) = self.notices.pop_front() {
            if let Err(rtrb::PushError::Full(told)) = self.questions.push(told) {
                self.notices.push_front(told);
                break;
            }
            moved = true;
        }
        if moved {
            self.proxy.wake();
        }
    }

    /// What the adapter says, with the shard that it is for. To be asked in every turn.
    pub fn take(&mut self) -> Option<(ShardId, Word)> {
        if !self.notices.is_empty() {
            self.flush();
        }
        self.words.pop().ok()
    }

    /// Whether there is nothing to take, or to be passed on.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty() && self.notices.is_empty()
    }
}

impl Drop for MetadataInbox {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.proxy.wake();
    }
}

impl OutboxParts {
    pub fn assemble(self) -> MetadataOutbox {
        MetadataOutbox {
            questions: self.questions,
            words: self.words,
            waiting: VecDeque::new(),
            wake_ingest: self.wake_ingest,
            stop: self.stop,
        }
    }
}

impl MetadataOutbox {
    /// What the proxy is told next.
    pub fn take(&mut self) -> Option<Told> {
        self.questions.pop().ok()
    }

    /// Whether the server stops.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Sends something to a shard, behind all that waits.
    pub fn say(&mut self, shard: ShardId, word: Word) {
        self.waiting.push_back((shard, word));
        self.flush();
    }

    /// Whether something waits for room.
    pub fn owes(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Sends what there is room for.
    pub fn flush(&mut self) {
        let before = self.waiting.len();
        while let Some(word) = self.waiting.pop_front() {
            if let Err(rtrb::PushError::Full(word)) = self.words.push(word) {
                self.waiting.push_front(word);
                break;
            }
        }
        if self.waiting.len() < before {
            fence(Ordering::SeqCst);
            (self.wake_ingest)();
        }
    }
}
