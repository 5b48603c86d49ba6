//! Changes this node's key without losing a packet: publish, overlap, switch, overlap, retire.
//!
//! ```text
//!            rotate              OVERLAP after it is in the store     RETIRE after that is in the store
//!   Steady ─────────► Announced ───────────────────────► Switched ──────────────────────► Steady
//!     K1               K1, also K2                        K2, also K1                       K2
//!   published: K1      K1, next K2                        K2                                K2
//! ```
//!
//! At every moment a peer that knows what was published before the last step, or after it, finds a key that
//! is answered to, and is heard by one that it knows. Each step is on the disk before it is done.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use model::api::Rotated;
use model::tunnel::EncapsulationKey;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use wireguard::keys::PrivateKey;
use wireguard::postquantum::kem::KemKey;

use super::exchange::{self, Secrets};
use super::key::{self, KeyFileError, Seed};
use super::{Keys, PublicKeys, public};
use crate::control::Control;
use crate::reconcile;
use crate::state_dir::{sync_dir, write_durably};

/// How long a key is announced before it is used: peers take milliseconds to learn of it, one whose daemon
/// is just being started anew a few seconds.
const OVERLAP: Duration = Duration::from_secs(10);
/// How long the former key is answered to.
const RETIRE: Duration = Duration::from_secs(30);
/// How often the snapshot is asked whether the store has what was published.
const POLL: Duration = Duration::from_millis(250);
/// The wall clock may be set: a rotation that is due by it is looked for this often.
const LOOK: Duration = Duration::from_secs(60);

/// Why the key does not change.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// It is changing.
    #[error("this node's key is changing already: try again in a minute")]
    UnderWay,
    /// There is nothing that uses it.
    #[error(
        "this node has no tunnel whose key could change: see the subsystem `tunnels` of routerctl status"
    )]
    NoTunnel,
    /// The new one cannot be kept.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// The daemon ends.
    #[error("routerd is stopping: try again when it runs")]
    Stopping,
}

impl RotateError {
    /// Whether the same may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, RotateError::UnderWay | RotateError::Stopping)
    }
}

type Answer = oneshot::Sender<Result<Rotated, RotateError>>;

/// Asks for a rotation.
#[derive(Clone, Debug)]
pub struct Handle(mpsc::Sender<Answer>);

impl Handle {
    /// Begins one.
    ///
    /// # Errors
    /// When it cannot begin.
    pub async fn rotate(&self) -> Result<Rotated, RotateError> {
        let (tx, rx) = oneshot::channel();
        let sent = self.0.send(tx).await;
        sent.map_err(|_| RotateError::Stopping)?;
        rx.await.map_err(|_| RotateError::Stopping)?
    }
}

/// The keys on the disk.
#[derive(Clone, Debug)]
pub struct KeyFiles {
    /// The one that is used.
    pub current: PathBuf,
    /// The one that is announced.
    pub next: PathBuf,
    /// The one that was used before.
    pub old: PathBuf,
    /// What the pair follows from that others encapsulate to.
    pub seed: PathBuf,
}

/// How far a rotation is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    Steady,
    Announced(PrivateKey),
    Switched(PrivateKey),
}

/// The keys, and how far their rotation is.
#[derive(Debug)]
pub struct Rotation {
    files: KeyFiles,
    current: PrivateKey,
    stage: Stage,
    seed: Seed,
    encapsulation: EncapsulationKey,
}

impl Rotation {
    /// Goes on where an earlier run was; makes a key where there is none.
    ///
    /// # Errors
    /// When a file cannot be read or holds no key.
    pub fn load(files: KeyFiles) -> Result<Rotation, KeyFileError> {
        let current = key::load_or_make(&files.current)?;
        let (next, old) = (key::load(&files.next)?, key::load(&files.old)?);
        // One that is also the current one is of a step that was not completed.
        let real = |k: &PrivateKey| *k != current;
        let stage = match (next.filter(real), old.filter(real)) {
            (Some(next), _) => Stage::Announced(next),
            (None, Some(old)) => Stage::Switched(old),
            (None, None) => Stage::Steady,
        };
        let seed = key::load_or_make_seed(&files.seed)?;
        let encapsulation = KemKey::from_seed(&seed).public().clone();
        Ok(Rotation {
            files,
            current,
            stage,
            seed,
            encapsulation,
        })
    }

    /// What the device has.
    pub fn keys(&self) -> Keys {
        let other = match &self.stage {
            Stage::Steady => None,
            Stage::Announced(other) | Stage::Switched(other) => Some(other.clone()),
        };
        Keys {
            current: self.current.clone(),
            other,
        }
    }

    /// What exchanges of preshared keys are made with.
    pub fn secrets(&self) -> Secrets {
        Secrets {
            keys: self.keys(),
            seed: self.seed.clone(),
        }
    }

    /// What is published.
    pub fn public_keys(&self) -> PublicKeys {
        let next = match &self.stage {
            Stage::Announced(next) => Some(public(next)),
            Stage::Steady | Stage::Switched(_) => None,
        };
        let current = Some(public(&self.current));
        PublicKeys {
            current,
            next,
            encapsulation: Some(self.encapsulation.clone()),
        }
    }

    /// How long after it was published the next step comes; `None`: there is none.
    fn pause(&self) -> Option<Duration> {
        match self.stage {
            Stage::Steady => None,
            Stage::Announced(_) => Some(OVERLAP),
            Stage::Switched(_) => Some(RETIRE),
        }
    }

    fn announce(&mut self) -> Result<(), RotateError> {
        if self.stage != Stage::Steady {
            return Err(RotateError::UnderWay);
        }
        let next = key::make_at(&self.files.next)?;
        tracing::info!(next = %next.public(), "this node's WireGuard key is about to change");
        self.stage = Stage::Announced(next);
        Ok(())
    }

    /// The next step.
    fn advance(&mut self) -> Result<(), KeyFileError> {
        let files = &self.files;
        match self.stage.clone() {
            Stage::Steady => {}
            Stage::Announced(next) => {
                let old = self.current.clone();
                let kept = write_durably(&files.old, old.expose_base64().as_bytes());
                let renamed = kept.and_then(|()| std::fs::rename(&files.next, &files.current));
                let done = renamed.and_then(|()| sync_dir(&files.current));
                done.map_err(|source| KeyFileError::io(&files.current, source))?;
                tracing::info!(public = %next.public(), "this node's WireGuard key has changed");
                (self.current, self.stage) = (next, Stage::Switched(old));
                // Nobody waits for this one: what is under way to the old one is done again.
                self.seed = key::make_seed_at(&self.files.seed)?;
                self.encapsulation = KemKey::from_seed(&self.seed).public().clone();
            }
            Stage::Switched(_) => {
                let gone = std::fs::remove_file(&files.old);
                gone.map_err(|source| KeyFileError::io(&files.old, source))?;
                self.stage = Stage::Steady;
            }
        }
        Ok(())
    }

    /// When the key in use was made.
    fn made(&self) -> Option<SystemTime> {
        let file = std::fs::metadata(&self.files.current);
        file.and_then(|f| f.modified()).ok()
    }
}

/// Carries out rotations.
pub struct Rotator {
    /// Name of the node.
    pub node: Arc<str>,
    /// The keys.
    pub rotation: Rotation,
    /// There is something that uses them.
    pub has_tunnel: bool,
    /// A key is replaced at this age.
    pub every: Option<Duration>,
    /// Publishes.
    pub control: Control,
    /// Has the device.
    pub reconcile: reconcile::Handle,
    /// Agrees on preshared keys.
    pub exchange: exchange::Handle,
    inbox: mpsc::Receiver<Answer>,
}

impl Rotator {
    /// A rotator, and the way to ask it.
    pub fn new(
        node: Arc<str>,
        rotation: Rotation,
        has_tunnel: bool,
        every: Option<Duration>,
        (control, reconcile, exchange): (Control, reconcile::Handle, exchange::Handle),
    ) -> (Rotator, Handle) {
        let (outbox, inbox) = mpsc::channel(1);
        let this = Rotator {
            node,
            rotation,
            has_tunnel,
            every,
            control,
            reconcile,
            exchange,
            inbox,
        };
        (this, Handle(outbox))
    }

    /// Runs until nobody can ask any more.
    pub async fn run(mut self) {
        // When the store was seen to have what is published now.
        let mut published: Option<Instant> = None;
        loop {
            let wait = match self.rotation.pause() {
                None => LOOK,
                Some(_) if published.is_none() => POLL,
                Some(pause) => published.map_or(POLL, |at| {
                    (at + pause).saturating_duration_since(Instant::now())
                }),
            };
            tokio::select! {
                asked = self.inbox.recv() => {
                    let Some(answer) = asked else { return };
                    let begun = self.begin().await;
                    published = None;
                    // Who asked may have gone.
                    let _ = answer.send(begun);
                }
                () = tokio::time::sleep(wait) => match (self.rotation.pause(), published) {
                    (None, _) => {
                        if self.is_due() && let Err(e) = self.begin().await {
                            tracing::warn!(error = %e, "this node's key is old and does not change");
                        }
                        published = None;
                    }
                    (Some(_), None) => published = self.is_published().await.then(Instant::now),
                    (Some(_), Some(_)) => {
                        match self.rotation.advance() {
                            Ok(()) => self.tell().await,
                            Err(e) => tracing::warn!(error = %e, "this node's key does not change"),
                        }
                        published = None;
                    }
                },
            }
        }
    }

    async fn begin(&mut self) -> Result<Rotated, RotateError> {
        if !self.has_tunnel {
            return Err(RotateError::NoTunnel);
        }
        self.rotation.announce()?;
        self.tell().await;
        let next = self.rotation.public_keys().next;
        Ok(Rotated {
            public_key: next.map(|k| k.to_string()).unwrap_or_default(),
            used_after_seconds: OVERLAP.as_secs(),
        })
    }

    /// To the device first: it answers to what is published.
    async fn tell(&self) {
        self.reconcile.keys(self.rotation.keys());
        self.exchange.secrets(self.rotation.secrets()).await;
        self.control.keys(self.rotation.public_keys()).await;
    }

    async fn is_published(&self) -> bool {
        let (node, wanted) = (Arc::clone(&self.node), self.rotation.public_keys());
        let has = self.control.query(move |snapshot, _| {
            snapshot.nodes.get(&*node).is_some_and(|n| {
                let status = &n.spec.status;
                let (current, next) = (
                    status.wireguard_public_key,
                    status.wireguard_next_public_key,
                );
                (current, next) == (wanted.current, wanted.next)
            })
        });
        has.await == Some(true)
    }

    fn is_due(&self) -> bool {
        let age = self.rotation.made().and_then(|at| at.elapsed().ok());
        self.has_tunnel && age.zip(self.every).is_some_and(|(age, every)| age >= every)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(dir: &std::path::Path) -> KeyFiles {
        let [current, next, old, seed] =
            ["key", "next", "old", "seed"].map(|f| dir.join(format!("wireguard.{f}")));
        KeyFiles {
            current,
            next,
            old,
            seed,
        }
    }

    /// Everything that is published has a key that is answered to, before and after each step.
    #[test]
    fn every_step_overlaps_with_the_one_before_also_after_a_crash() {
        let dir = tempfile::tempdir().unwrap();
        let load = || Rotation::load(files(dir.path())).unwrap();
        let mut rotation = load();
        let answers = |r: &Rotation| {
            let Keys { current, other } = r.keys();
            std::iter::once(current)
                .chain(other)
                .map(|k| public(&k))
                .collect::<Vec<_>>()
        };
        let (first, mut before) = (rotation.public_keys(), rotation.public_keys());
        let seed = rotation.seed.clone();
        rotation.announce().unwrap();
        assert!(matches!(rotation.announce(), Err(RotateError::UnderWay)));
        let next = rotation.public_keys().next;
        for step in 0..3 {
            // Who knows what was published before, and who knows what is now.
            for known in [before.clone(), rotation.public_keys()] {
                assert!(
                    answers(&rotation).contains(&known.current.unwrap()),
                    "{step}"
                );
            }
            // What it uses itself is known to either.
            let used = answers(&rotation)[0];
            for known in [before.clone(), rotation.public_keys()] {
                assert!([known.current, known.next].contains(&Some(used)), "{step}");
            }
            let again = load();
            assert_eq!(
                (&again.current, &again.stage),
                (&rotation.current, &rotation.stage)
            );
            before = rotation.public_keys();
            rotation.advance().unwrap();
        }
        assert_eq!(rotation.stage, Stage::Steady);
        assert_eq!(rotation.public_keys().current, next);
        assert_ne!(rotation.public_keys(), first);
        assert!(rotation.seed != seed && load().seed == rotation.seed);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
        // A crash between keeping the old key and using the new one.
        rotation.announce().unwrap();
        std::fs::copy(&rotation.files.current, &rotation.files.old).unwrap();
        assert_eq!(load().stage, rotation.stage);
    }
}
