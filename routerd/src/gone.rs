//! Owners that do not answer any more, and why: routerd stops, or their thread has ended by a defect.
//!
//! ```text
//!  thread: Watched ── runs the owner, keeps how that ended ──► Fate: who asks in vain, the status
//! ```

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use model::api::{Health, Subsystem};
use tokio::sync::watch;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Gone {
    /// The daemon ends.
    #[error("routerd is stopping: try again when it runs")]
    Stopping,
    /// The thread panicked.
    #[error("{name} ended by a defect ({said}): {left}; restart routerd, and report this")]
    Defect {
        /// The subsystem.
        name: &'static str,
        /// What the thread said last.
        said: String,
        /// How things are without it.
        left: &'static str,
    },
}

impl Gone {
    /// Whether the same question may have an answer later, without anybody's help.
    pub fn is_retryable(&self) -> bool {
        *self == Gone::Stopping
    }
}

/// The thread's side.
#[derive(Debug)]
pub struct Watched {
    name: &'static str,
    left: &'static str,
    end: watch::Sender<Option<Gone>>,
}

/// Everybody else's side.
#[derive(Clone, Debug)]
pub struct Fate(watch::Receiver<Option<Gone>>);

impl Watched {
    /// Of a subsystem; `left` tells how things are when it has ended.
    pub fn new(name: &'static str, left: &'static str) -> (Watched, Fate) {
        let (end, seen) = watch::channel(None);
        (Watched { name, left, end }, Fate(seen))
    }

    /// Does the work of the thread, which ends with it.
    pub fn run(self, work: impl FnOnce()) {
        // Nobody uses afterwards what the work has left half done.
        let gone = match catch_unwind(AssertUnwindSafe(work)) {
            Ok(()) => Gone::Stopping,
            Err(panic) => Gone::Defect {
                name: self.name,
                said: said(&*panic),
                left: self.left,
            },
        };
        if let Gone::Defect { .. } = gone {
            tracing::error!("{gone}");
        }
        self.end.send_replace(Some(gone));
    }
}

impl Fate {
    /// Of what ends in good order only.
    #[cfg(test)]
    pub(crate) fn untroubled() -> Fate {
        Watched::new("", "").1
    }

    /// Why somebody who should have answered did not: waits until it has ended.
    pub async fn gone(&self) -> Gone {
        let mut seen = self.0.clone();
        let gone = seen.wait_for(Option::is_some).await;
        // One that never began.
        gone.ok().and_then(|g| g.clone()).unwrap_or(Gone::Stopping)
    }

    /// As [`Fate::gone`], on a thread of the runtime that may block.
    pub fn blocking_gone(&self) -> Gone {
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => runtime.block_on(self.gone()),
            Err(_) => Gone::Stopping,
        }
    }

    /// For the status, where it has ended by a defect.
    pub fn subsystem(&self) -> Option<Subsystem> {
        match &*self.0.borrow() {
            Some(gone @ Gone::Defect { name, .. }) => Some(Subsystem {
                name: (*name).to_owned(),
                state: Health::Failed,
                message: gone.to_string(),
            }),
            _ => None,
        }
    }
}

/// What a panic says.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a word".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_defect_is_told_and_an_end_is_not() {
        let (watched, fate) = Watched::new("policy", "nothing is lost");
        assert_eq!(fate.subsystem(), None);
        watched.run(|| {});
        assert_eq!(
            (fate.gone().await, fate.subsystem()),
            (Gone::Stopping, None)
        );

        let (watched, fate) = Watched::new("policy", "nothing is lost");
        let thread = std::thread::spawn(|| watched.run(|| panic!("the {} failed", "test")));
        let told = fate.gone().await.to_string();
        assert_eq!(
            told,
            "policy ended by a defect (the test failed): nothing is lost; restart routerd, and report this"
        );
        let subsystem = fate.subsystem().unwrap();
        assert_eq!((subsystem.state, subsystem.message), (Health::Failed, told));
        thread.join().unwrap();
    }

    #[tokio::test]
    async fn what_never_began_is_as_what_stopped() {
        let (watched, fate) = Watched::new("flows", "");
        drop(watched);
        assert_eq!(fate.gone().await, Gone::Stopping);
    }
}
