//! The socket options of a server, shared by the HTTP server and the server of any other protocol.

/// Expands next to the type, which must have an `Endpoint` in its field `endpoint`.
macro_rules! server_options {
    ($server:ident) => {
        /// # Sockets
        ///
        /// ```
        /// # #[tokio::main(flavor = "current_thread")]
        /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
        /// use std::time::Duration;
        ///
        /// # let app = axum::Router::new();
        /// # let path = std::env::temp_dir().join(format!("docs-{}.sock", std::process::id()));
        /// # let socket = format!("unix:{}", path.display());
        /// let server = graceful::serve(["[::]:0", &*socket], app)
        ///     .max_connections(10_000)
        ///     .backlog(1_024)
        ///     .nodelay(true)
        ///     .tcp_keepalive(Duration::from_secs(60))
        ///     .only_v6(false)
        ///     .reuse_port(true)
        ///     .unix_mode(0o660);
        /// # graceful::Config::new().start(server).await?.stop().await;
        /// # Ok(())
        /// # }
        /// ```
        impl $server {
            /// Limits the number of simultaneous connections, over all addresses of the server.
            /// `None` means no limit, which is the default.
            ///
            /// At the limit, the server stops accepting and logs that once; clients wait in the
            /// kernel's queue until a connection ends.
            ///
            /// # Panics
            ///
            /// If `max` is 0.
            #[track_caller]
            pub fn max_connections(mut self, max: impl Into<Option<usize>>) -> Self {
                let max = max.into();
                assert!(max != Some(0), "`max_connections` may not be 0");
                self.endpoint.sockets.max_connections = max;
                self
            }

            /// Sets how many clients the kernel keeps in its queue (listen(2)). Default: as many as
            /// the system allows (`net.core.somaxconn`). With a shorter queue, a burst of clients
            /// waits for a second until their SYN is sent again.
            pub fn backlog(mut self, backlog: u32) -> Self {
                self.endpoint.sockets.backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
                self
            }

            /// Sets whether small writes are sent immediately (`TCP_NODELAY`, tcp(7)). Default:
            /// `true`, like Go and nginx: responses are written in one piece, and would otherwise
            /// wait for the acknowledgement of the previous one.
            pub fn nodelay(mut self, nodelay: bool) -> Self {
                self.endpoint.sockets.nodelay = nodelay;
                self
            }

            /// Sets how long a connection must be idle before the kernel probes whether the client
            /// is still there, and the interval of further probes (`TCP_KEEPIDLE`, `TCP_KEEPINTVL`,
            /// tcp(7)). `None` means never. Default: 15 s, like Go: a client that has vanished must
            /// not hold a descriptor forever.
            pub fn tcp_keepalive(mut self, idle: impl Into<Option<std::time::Duration>>) -> Self {
                self.endpoint.sockets.keepalive = idle.into().map($crate::stop::bounded);
                self
            }

            /// Sets whether `[::]:port` listens for IPv6 only (`IPV6_V6ONLY`, ipv6(7)). Default:
            /// `false`, whatever the system's default is, so that IPv4 clients are served, too.
            pub fn only_v6(mut self, only: bool) -> Self {
                self.endpoint.sockets.only_v6 = only;
                self
            }

            /// Sets whether other sockets may listen at the same address, with the kernel
            /// distributing the clients among them (`SO_REUSEPORT`, socket(7)). Default: `false`,
            /// so that a second instance started by mistake is an error.
            pub fn reuse_port(mut self, reuse: bool) -> Self {
                self.endpoint.sockets.reuse_port = reuse;
                self
            }

            /// Declares who else holds the listening socket that was handed in. Default: unknown.
            /// Sockets passed by systemd (`LISTEN_FDS`, `sd_listen_fds(3)`) are recognised as
            /// shared.
            ///
            /// # Examples
            ///
            /// ```no_run
            /// # let app = axum::Router::new();
            /// use graceful::SocketSharing;
            ///
            /// let listener = std::net::TcpListener::bind("127.0.0.1:8080")?;
            /// let server = graceful::serve(listener, app).socket_sharing(SocketSharing::Exclusive);
            /// # std::io::Result::Ok(())
            /// ```
            pub fn socket_sharing(mut self, sharing: $crate::SocketSharing) -> Self {
                self.endpoint.sockets.sharing = Some(sharing);
                self
            }

            /// Sets the permissions of a Unix socket's file, such as `0o660`: clients need write
            /// permission (unix(7)). Default: what the umask leaves. They are set before the first
            /// client can connect.
            pub fn unix_mode(mut self, mode: u32) -> Self {
                self.endpoint.sockets.unix_mode = Some(mode);
                self
            }
        }

        /// # TLS and other steps before the protocol
        impl $server {
            /// Serves TLS with rustls. The crypto provider is the one in `config`.
            ///
            /// An HTTP server offers `h2` and `http/1.1` through ALPN, unless `config` says
            /// otherwise. Handshakes do not block the accept loop; they may take as long as the
            /// [`header_timeout`](crate::Server::header_timeout) of an HTTP server, or 30 s on
            /// other servers. A handshake in progress when the drain starts holds it for at most a
            /// second, but may still complete while the drain lasts, as a TCP handshake may; its
            /// request is then answered. Each connection ends with a `close_notify`, so that no
            /// client takes it for truncated.
            ///
            /// # Examples
            ///
            /// ```no_run
            /// use std::sync::Arc;
            ///
            /// use graceful::rustls::ServerConfig;
            ///
            /// # fn config() -> ServerConfig { unimplemented!() }
            /// # let app = axum::Router::new();
            /// let server = graceful::serve("0.0.0.0:8443", app).tls(Arc::new(config()));
            /// ```
            #[cfg(feature = "tls")]
            pub fn tls(mut self, config: std::sync::Arc<$crate::rustls::ServerConfig>) -> Self {
                self.endpoint.tls = Some($crate::net::tls::TlsSource::Config(config));
                self
            }

            /// Serves TLS like [`tls`](Self::tls), with a certificate chain (leaf first) and a key
            /// from PEM files. Needs rustls's default crypto provider to be installed.
            ///
            /// The files are reloaded when they change: certbot and cert-manager renew in place.
            /// Handshakes trigger a check, at most once a second, and
            /// [`Handle::reload_tls`](crate::Handle::reload_tls) triggers one immediately. A
            /// separate thread does the reading, so handshakes at that moment still get the
            /// previous certificate. While the files cannot be read, that certificate stays in use;
            /// each check tries again, and the reason is logged once. Files that cannot be read at
            /// startup are an error.
            ///
            /// # Examples
            ///
            /// ```no_run
            /// # let app = axum::Router::new();
            /// let live = "/etc/letsencrypt/live/example.org";
            /// let server = graceful::serve("[::]:443", app)
            ///     .tls_files(format!("{live}/fullchain.pem"), format!("{live}/privkey.pem"));
            /// ```
            #[cfg(feature = "tls")]
            pub fn tls_files(
                mut self,
                certificate: impl Into<std::path::PathBuf>,
                key: impl Into<std::path::PathBuf>,
            ) -> Self {
                let files = $crate::net::tls::CertifiedFiles {
                    certificate: certificate.into(),
                    key: key.into(),
                };
                self.endpoint.tls = Some($crate::net::tls::TlsSource::Files(files));
                self
            }

            /// Runs `acceptor` before the protocol, for other TLS stacks and custom tunnels.
            pub fn acceptor(mut self, acceptor: impl $crate::Acceptor) -> Self {
                self.endpoint.preamble.acceptor =
                    Some(std::sync::Arc::new($crate::net::Custom(acceptor)));
                self
            }

            /// Takes the client's address from the PROXY protocol header, version 1 or 2, which a
            /// load balancer sends before anything else. [`ConnectInfo`](crate::ConnectInfo) and
            /// messages then show that address. The header is trusted, and a connection without one
            /// is closed, so enable this only if every client is a balancer that sends it.
            #[cfg(feature = "proxy-protocol")]
            pub fn proxy_protocol(mut self) -> Self {
                self.endpoint.preamble.proxy_protocol = true;
                self
            }
        }
    };
}

pub(crate) use server_options;
