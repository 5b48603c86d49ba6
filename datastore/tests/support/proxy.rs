//! A TCP proxy that can be cut, so that one client loses etcd while others keep it.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) struct Proxy {
    pub(crate) url: String,
    cut: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Forwards to `url`, an `http://` URL with an address and a port.
    pub(crate) async fn start(url: &str) -> Proxy {
        let to: SocketAddr = url.strip_prefix("http://").unwrap().parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let cut = watch::Sender::new(false);
        let state = cut.clone();
        let task = tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let mut cut = state.subscribe();
                tokio::spawn(async move {
                    let forward = async {
                        let mut server = TcpStream::connect(to).await?;
                        tokio::io::copy_bidirectional(&mut client, &mut server).await
                    };
                    tokio::select! {
                        _ = cut.wait_for(|cut| *cut) => {}
                        _ = forward => {}
                    }
                });
            }
        });
        Proxy { url, cut, task }
    }

    /// Ends all connections, and new ones at once, until it is mended.
    pub(crate) fn cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut(true);
        self.task.abort();
    }
}
