//! Work in order per attachment, side by side between attachments.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;

use tokio::sync::{mpsc, oneshot};

use super::CniError;

/// Container id and interface name: what the runtime calls an attachment.
pub(super) type Key = (String, String);

type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Requests waiting for the queue's owner; beyond that the socket waits.
const WAITING: usize = 1024;

enum Message {
    Start(Key, Job),
    Done(Key),
}

/// Handle of the task that owns the order.
#[derive(Clone)]
pub(super) struct Queue {
    tx: mpsc::Sender<Message>,
}

impl Queue {
    pub(super) fn start() -> Queue {
        let (tx, rx) = mpsc::channel(WAITING);
        tokio::spawn(own(rx, tx.downgrade()));
        Queue { tx }
    }

    /// Runs `work` after all earlier work of this key. Once started it ends, also when the client
    /// that asked has gone: a half-made attachment would be worse than an unread answer.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        key: Key,
        work: impl Future<Output = Result<T, CniError>> + Send + 'static,
    ) -> Result<T, CniError> {
        let (answer, answered) = oneshot::channel();
        let job = Box::pin(async move {
            // The receiver is dropped when the client has gone.
            let _ = answer.send(work.await);
        });
        self.tx
            .send(Message::Start(key, job))
            .await
            .map_err(|_| CniError::Stopping)?;
        answered.await.map_err(|_| CniError::Stopping)?
    }
}

async fn own(mut rx: mpsc::Receiver<Message>, tx: mpsc::WeakSender<Message>) {
    let mut waiting: HashMap<Key, VecDeque<Job>> = HashMap::new();
    while let Some(message) = rx.recv().await {
        let (key, job) = match message {
            Message::Start(key, job) => match waiting.get_mut(&key) {
                Some(queue) => {
                    queue.push_back(job);
                    continue;
                }
                None => {
                    waiting.insert(key.clone(), VecDeque::new());
                    (key, job)
                }
            },
            Message::Done(key) => match waiting.get_mut(&key).and_then(VecDeque::pop_front) {
                Some(job) => (key, job),
                None => {
                    waiting.remove(&key);
                    continue;
                }
            },
        };
        let tx = tx.clone();
        tokio::spawn(async move {
            job.await;
            if let Some(tx) = tx.upgrade() {
                let _ = tx.send(Message::Done(key)).await;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tokio::sync::{Barrier, Notify};

    fn key(id: &str) -> Key {
        (id.to_owned(), "eth0".to_owned())
    }

    #[tokio::test]
    async fn one_attachment_is_served_in_order() {
        let queue = Queue::start();
        let gate = Arc::new(Notify::new());
        let (log, mut seen) = mpsc::unbounded_channel();
        let first = {
            let (queue, gate, log) = (queue.clone(), Arc::clone(&gate), log.clone());
            tokio::spawn(async move {
                let work = async move {
                    log.send("started").unwrap();
                    gate.notified().await;
                    log.send("first").unwrap();
                    Ok(())
                };
                queue.run(key("a"), work).await
            })
        };
        assert_eq!(seen.recv().await, Some("started"));
        let second = {
            let queue = queue.clone();
            tokio::spawn(async move {
                let work = async move {
                    log.send("second").unwrap();
                    Ok(())
                };
                queue.run(key("a"), work).await
            })
        };
        tokio::task::yield_now().await;
        gate.notify_one();
        assert_eq!(seen.recv().await, Some("first"));
        assert_eq!(seen.recv().await, Some("second"));
        first.await.unwrap().unwrap();
        second.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn different_attachments_run_side_by_side() {
        let queue = Queue::start();
        // Neither passes the barrier unless both run at once.
        let barrier = Arc::new(Barrier::new(2));
        let run = |id: &str| {
            let (queue, barrier, key) = (queue.clone(), Arc::clone(&barrier), key(id));
            tokio::spawn(async move {
                queue
                    .run(key, async move {
                        barrier.wait().await;
                        Ok(())
                    })
                    .await
            })
        };
        let (a, b) = (run("a"), run("b"));
        a.await.unwrap().unwrap();
        b.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn started_work_ends_when_the_client_goes() {
        let queue = Queue::start();
        let (ended, done) = oneshot::channel();
        let (started, has_started) = oneshot::channel();
        let client = tokio::spawn(async move {
            let work = async move {
                started.send(()).unwrap();
                tokio::task::yield_now().await;
                ended.send(()).unwrap();
                Ok(())
            };
            queue.run(key("a"), work).await
        });
        has_started.await.unwrap();
        client.abort();
        done.await.unwrap();
    }
}
