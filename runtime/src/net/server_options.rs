//! The socket options of a server, whatever its protocol: written once, for the server
//! of HTTP and for that of any other.

/// Expands next to the type, which has an `Endpoint` in its field `endpoint`.
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
            /// How many connections there may be at once, over all addresses of the server. `None`
            /// is no limit. Default: none.
            ///
            /// At the limit the server stops accepting, and says so once: clients wait in the
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

            /// How many clients the kernel keeps in its queue (listen(2)). Default: as many as the
            /// system allows (`net.core.somaxconn`): with fewer, a burst of clients waits for a
            /// second until their SYN is sent again.
            pub fn backlog(mut self, backlog: u32) -> Self {
                self.endpoint.sockets.backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
                self
            }

            /// Whether small writes are sent at once (`TCP_NODELAY`, tcp(7)). Default: `true`, as
            /// Go and nginx: responses are written in one piece, and would wait for the
            /// acknowledgement of the one before.
            pub fn nodelay(mut self, nodelay: bool) -> Self {
                self.endpoint.sockets.nodelay = nodelay;
                self
            }

            /// After which time without a byte the kernel asks whether the client is still there,
            /// and how often from then on (`TCP_KEEPIDLE`, `TCP_KEEPINTVL`, tcp(7)). `None`: never.
            /// Default: 15 s, as Go: a client that has vanished must not hold a descriptor forever.
            pub fn tcp_keepalive(mut self, idle: impl Into<Option<std::time::Duration>>) -> Self {
                self.endpoint.sockets.keepalive = idle.into().map($crate::stop::bounded);
                self
            }

            /// Whether `[::]:port` listens for IPv6 alone (`IPV6_V6ONLY`, ipv6(7)). Default:
            /// `false`, whatever the system's default is: IPv4 clients are served, too.
            pub fn only_v6(mut self, only: bool) -> Self {
                self.endpoint.sockets.only_v6 = only;
                self
            }

            /// Whether other sockets may listen at the same address, among which the kernel
            /// distributes the clients (`SO_REUSEPORT`, socket(7)). Default: `false`: a second
            /// instance by mistake is an error.
            pub fn reuse_port(mut self, reuse: bool) -> Self {
                self.endpoint.sockets.reuse_port = reuse;
                self
            }

            /// Says who else holds the listening socket that was handed in. Default: unknown.
            /// Sockets that systemd has passed (`LISTEN_FDS`, `sd_listen_fds(3)`) are recognised as
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

            /// The permissions of the file of a Unix socket, such as `0o660`: clients need to be
            /// allowed to write (unix(7)). Default: what the umask leaves. They are set before the
            /// first client gets in.
            pub fn unix_mode(mut self, mode: u32) -> Self {
                self.endpoint.sockets.unix_mode = Some(mode);
                self
            }
        }

        /// # TLS, and what else comes before the protocol
        impl $server {
            /// Speaks TLS, by rustls. Which crypto provider it uses is up to `config`.
            ///
            /// A server of HTTP offers `h2` and `http/1.1` by ALPN, unless `config` says otherwise.
            /// Handshakes do not hold up the accept loop; they may take as long as the
            /// [`header_timeout`](crate::Server::header_timeout) of a server of HTTP, or 30 s. One
            /// that is under way when the drain starts holds it for at most a second, and may
            /// complete for as long as the drain takes anyway, as a handshake of TCP does; its
            /// request is answered then. The end of each connection is said (`close_notify`), so
            /// that no client takes it for cut off.
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

            /// Speaks TLS as [`tls`](Self::tls) does, with a certificate (its chain, its own first)
            /// and a key from files in PEM. Needs rustls's default crypto provider to be installed.
            ///
            /// The files are read again when they have changed, as by certbot and cert-manager,
            /// which renew in place. A handshake has them looked at, at most once a second, and
            /// [`Handle::reload_tls`](crate::Handle::reload_tls) does so at once. That is done by a
            /// thread of its own: the handshakes of that moment still get the certificate from
            /// before. While the files cannot be read that one stays; each look is another try, and
            /// the reason is said once. Files that cannot be read at the start are an error.
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

            /// Runs `acceptor` before HTTP is spoken: for other TLS stacks, and tunnels
            /// of your own.
            pub fn acceptor(mut self, acceptor: impl $crate::Acceptor) -> Self {
                self.endpoint.preamble.acceptor =
                    Some(std::sync::Arc::new($crate::net::Custom(acceptor)));
                self
            }

            /// Takes the client's address from the header of the PROXY protocol, version 1 or 2,
            /// which a load balancer sends before anything else: it is what
            /// [`ConnectInfo`](crate::ConnectInfo) and the messages say. A connection without one
            /// is closed: so switch it on only where every client is a balancer that sends it, for
            /// the header is believed.
            #[cfg(feature = "proxy-protocol")]
            pub fn proxy_protocol(mut self) -> Self {
                self.endpoint.preamble.proxy_protocol = true;
                self
            }
        }
    };
}

pub(crate) use server_options;
