//! What a metadata adapter answers, now or later.

use super::MetadataError;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// An answer that is there, or will be.
pub struct Answer<T>(pub(super) Kind<T>);

pub(super) enum Kind<T> {
    Now(Result<T, MetadataError>),
    Later(Arc<Slot<T>>),
}

impl<T> Answer<T> {
    /// An answer that comes when the promise is kept, from any thread. The calling one is free meanwhile.
    ///
    /// ```
    /// use brightwire::metadata::Answer;
    ///
    /// let (promise, answer) = Answer::later();
    /// std::thread::spawn(move || promise.keep(Ok(42)));
    /// # let _: Answer<i32> = answer;
    /// ```
    pub fn later() -> (Promise<T>, Self) {
        let slot = Arc::new(Slot(Mutex::new(State::Open)));
        (Promise(Some(Arc::clone(&slot))), Self(Kind::Later(slot)))
    }

    /// Yes, with nothing to add.
    pub fn ok() -> Self
    where
        T: Default,
    {
        Self(Kind::Now(Ok(T::default())))
    }
}

impl<T> From<Result<T, MetadataError>> for Answer<T> {
    fn from(result: Result<T, MetadataError>) -> Self {
        Self(Kind::Now(result))
    }
}

impl<T> From<MetadataError> for Answer<T> {
    fn from(error: MetadataError) -> Self {
        Self(Kind::Now(Err(error)))
    }
}

impl<T> fmt::Debug for Answer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Now(Ok(_)) => "Answer(yes)",
            Kind::Now(Err(_)) => "Answer(no)",
            Kind::Later(_) => "Answer(later)",
        })
    }
}

/// The duty to answer. One that is dropped without an answer counts as failed.
pub struct Promise<T>(Option<Arc<Slot<T>>>);

impl<T> Promise<T> {
    /// Answers.
    pub fn keep(mut self, result: Result<T, MetadataError>) {
        if let Some(slot) = self.0.take() {
            slot.fill(result);
        }
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        if let Some(slot) = self.0.take() {
            slot.fill(Err(MetadataError::Failed("it has not answered".into())));
        }
    }
}

impl<T> fmt::Debug for Promise<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Promise")
    }
}

type Then<T> = Box<dyn FnOnce(Result<T, MetadataError>) + Send>;

enum State<T> {
    Open,
    Filled(Result<T, MetadataError>),
    Awaited(Then<T>),
    Done,
}

/// Where the two ends meet.
pub(super) struct Slot<T>(Mutex<State<T>>);

impl<T> Slot<T> {
    fn swap(&self, next: impl FnOnce(State<T>) -> State<T>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *state, State::Done);
        *state = next(before);
    }

    fn fill(&self, result: Result<T, MetadataError>) {
        let mut call = None;
        self.swap(|state| match state {
            State::Awaited(then) => {
                call = Some((then, result));
                State::Done
            }
            _ => State::Filled(result),
        });
        // Outside of the lock.
        if let Some((then, result)) = call {
            then(result);
        }
    }

    /// Calls `then` with the answer, now if it is there.
    pub(super) fn then(&self, then: Then<T>) {
        let mut call = None;
        self.swap(|state| match state {
            State::Filled(result) => {
                call = Some((then, result));
                State::Done
            }
            _ => State::Awaited(then),
        });
        if let Some((then, result)) = call {
            then(result);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{self, Receiver};

    fn heard<T: Send + 'static>(answer: Answer<T>) -> Receiver<Result<T, MetadataError>> {
        let (sender, receiver) = mpsc::channel();
        match answer.0 {
            Kind::Now(result) => sender.send(result).unwrap(),
            Kind::Later(slot) => slot.then(Box::new(move |result| sender.send(result).unwrap())),
        }
        receiver
    }

    #[test]
    fn an_answer_is_heard_whichever_end_comes_first() {
        assert_eq!(heard(Answer::<u32>::ok()).try_recv(), Ok(Ok(0)));
        let (promise, answer) = Answer::later();
        promise.keep(Ok(1));
        assert_eq!(heard(answer).try_recv(), Ok(Ok(1)));
        let (promise, answer) = Answer::later();
        let receiver = heard(answer);
        assert!(receiver.try_recv().is_err());
        std::thread::spawn(move || promise.keep(Err(MetadataError::Access)));
        assert_eq!(receiver.recv(), Ok(Err::<u32, _>(MetadataError::Access)));
    }

    #[test]
    fn a_promise_that_is_dropped_is_a_failure() {
        let (promise, answer) = Answer::<()>::later();
        drop(promise);
        assert!(matches!(
            heard(answer).try_recv(),
            Ok(Err(MetadataError::Failed(_)))
        ));
    }
}
