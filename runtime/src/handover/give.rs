//! The old process: starts or lets in a next one, goes on until that serves, and gives it the
//! connections then.

use std::{
    convert::Infallible,
    fmt, io,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    net::UnixListener,
    sync::{mpsc, oneshot},
};

use super::{
    Handover,
    channel::{Batch, Channel, MOST},
    door::Door,
    message::{Message, offering},
    program::{NewProcess, Program, Started},
    take,
};
use crate::{
    context::Handle,
    log::say,
    net::moving::{self, Parcel},
    signal::Signals,
    stop::{Event, Phase, Shared},
    util::{First, HumanDuration, race, sync::lock_std, threads, within},
    work::{Role, TaskGuard, TaskName},
};

/// Why the next version has not taken over. This process goes on as if nothing had happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpgradeError(String);

impl fmt::Display for UpgradeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UpgradeError {}

/// How long after the end of its socket the end of a process is waited for.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Returns the requests of `Handle::upgrade`, which may come from now on.
pub(super) fn requests() -> mpsc::UnboundedReceiver<Answer> {
    let (requests, requested) = mpsc::unbounded_channel();
    *lock_std(&REQUESTS) = Some(requests);
    requested
}

pub(super) type Answer = oneshot::Sender<Result<u32, UpgradeError>>;

/// To the sentinel's thread, from `Handle::upgrade`.
static REQUESTS: Mutex<Option<mpsc::UnboundedSender<Answer>>> = Mutex::new(None);

impl Handle {
    /// Starts the next version of this program, hands over to it, and stops: the same as a signal
    /// of [`Config::upgrade`](crate::Config::upgrade). Returns the number of the new process, as
    /// soon as that serves; this one drains from then on.
    ///
    /// # Errors
    ///
    /// Whatever goes wrong before the new process serves: it is ended, and this one goes on. Also
    /// outside of [`Config::run`](crate::Config::run), and while the program stops.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not take the request back.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example() {
    /// match graceful::Handle::current().upgrade().await {
    ///     Ok(process) => println!("process {process} goes on"),
    ///     Err(error) => println!("no upgrade: {error}"),
    /// }
    /// # }
    /// ```
    pub async fn upgrade(&self) -> Result<u32, UpgradeError> {
        let (answer, answered) = oneshot::channel();
        let requests = lock_std(&REQUESTS).clone();
        let sent = requests.is_some_and(|requests| requests.send(answer).is_ok());
        if !sent {
            let why = "only a program under `Config::run` can hand over";
            return Err(UpgradeError(why.to_owned()));
        }
        answered.await.unwrap_or_else(|_| Err(UpgradeError("the program stops".to_owned())))
    }
}

/// What starts a hand-over.
enum Start {
    Signal(crate::signal::Signal),
    Request(Answer),
    Asked(io::Result<tokio::net::UnixStream>),
}

/// The hand-over to the service manager, from when the program begins to stop.
#[derive(Default)]
pub(super) struct Stored(Arc<Mutex<Option<Given>>>);

#[cfg(all(feature = "systemd", target_os = "linux"))]
impl Stored {
    /// Returns what is to be called before a stop: it leaves the listeners with the manager, and
    /// has the connections follow them.
    pub(super) fn before_stop(
        &self,
        stores: bool,
        shared: &Arc<Shared>,
    ) -> Box<dyn FnOnce(&Shared) + Send> {
        let (slot, shared) = (self.0.clone(), shared.clone());
        Box::new(move |_| {
            // A connection goes to one process alone.
            if !stores || !shared.manager.is_there() || moving::is_giving() {
                return;
            }
            match super::store::Store::begin(&shared) {
                Ok((store, wanted)) => {
                    let parcels = moving::begin_giving(wanted);
                    let given = Given { to: To::Store(store), parcels, room: u64::MAX };
                    *lock_std(&slot) = Some(given);
                }
                Err(error) => say!(
                    shared.log,
                    warn,
                    { error = error.to_string() },
                    "the service manager keeps nothing: {error}"
                ),
            }
        })
    }
}

pub(super) async fn run(
    handover: Handover,
    shared: Arc<Shared>,
    mut signals: Signals,
    mut requested: mpsc::UnboundedReceiver<Answer>,
    stored: Stored,
) {
    let Handover { settings, program, mut door, arriving, .. } = handover;
    if let Some(arriving) = arriving {
        let take_door = || door.as_mut().map_or(Ok(()), Door::hold);
        match take::arrive(arriving, &shared, take_door).await {
            Ok(()) => {}
            // It ends anyway, as it was told to.
            Err(failure) if shared.phase.is_stopping() => say!(shared.log, info, {}, "{failure}"),
            Err(failure) => shared.tell(Event::Failed(failure)),
        }
    }
    let program = Arc::new(program);
    let mut listener = listener_of(&shared, door.as_mut());
    let given = race(shared.phase.reached(Phase::Stopping), async {
        loop {
            let start = next(&mut signals, &mut requested, listener.as_ref()).await;
            if let Some(given) = attempt(start, &shared, &program, settings.timeout).await {
                return given;
            }
            // The process that has failed may have come as far as to take the path.
            if let Some(door) = door.as_mut().filter(|door| !door.is_held())
                && door.hold().is_ok()
            {
                listener = listener_of(&shared, Some(door));
            }
        }
    });
    let given = match given.await {
        First::Right(given) => {
            if let Some(door) = &mut door {
                door.leave();
            }
            Some(given)
        }
        First::Left(()) => lock_std(&stored.0).take(),
    };
    if given.is_none() {
        // Nobody goes on with them.
        super::listeners::forget();
    }
    // Signals that come now find the process stopping.
    let refusing = refuse(&shared, &mut signals, requested);
    let over = shared.phase.reached(Phase::Over);
    let Some(Given { mut to, parcels, room }) = given else {
        race(over, refusing).await;
        return;
    };
    race(over, race(refusing, give(&mut to, parcels, room))).await;
    moving::end_giving();
    // The other end may be gone.
    let _ = to.send(Batch::of(&[Message::Done])).await;
}

fn listener_of(shared: &Shared, door: Option<&mut Door>) -> Option<UnixListener> {
    let listener = door.map_or(Ok(None), Door::listener);
    listener.unwrap_or_else(|error| {
        say!(
            shared.log,
            warn,
            { error = error.to_string() },
            "nobody can take over at the path of `handover`: {error}"
        );
        None
    })
}

async fn next(
    signals: &mut Signals,
    requested: &mut mpsc::UnboundedReceiver<Answer>,
    listener: Option<&UnixListener>,
) -> Start {
    let asked = async {
        match listener {
            Some(listener) => listener.accept().await.map(|(socket, _)| socket),
            None => std::future::pending().await,
        }
    };
    // `run` holds the other end of the requests.
    let requested = async {
        match requested.recv().await {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    };
    match race(signals.next(), race(requested, asked)).await {
        First::Left(signal) => Start::Signal(signal),
        First::Right(First::Left(answer)) => Start::Request(answer),
        First::Right(First::Right(asked)) => Start::Asked(asked),
    }
}

/// Refuses the upgrades that are requested while the program stops.
async fn refuse(
    shared: &Shared,
    signals: &mut Signals,
    mut requested: mpsc::UnboundedReceiver<Answer>,
) -> Infallible {
    loop {
        match next(signals, &mut requested, None).await {
            Start::Signal(signal) => say!(
                shared.log,
                warn,
                { signal = signal.to_string() },
                "{signal} received: no upgrade, the program stops"
            ),
            Start::Request(answer) => {
                // Whoever asked may be gone.
                let _ = answer.send(Err(UpgradeError("the program stops".to_owned())));
            }
            Start::Asked(_) => {}
        }
    }
}

/// Where the connections go.
enum To {
    Process(Channel),
    #[cfg(all(feature = "systemd", target_os = "linux"))]
    Store(super::store::Store),
}

impl To {
    async fn send(&mut self, batch: Batch<'_>) -> io::Result<()> {
        match self {
            Self::Process(channel) => channel.send(batch).await,
            #[cfg(all(feature = "systemd", target_os = "linux"))]
            Self::Store(store) => store.send(&batch),
        }
    }
}

/// A hand-over that has begun.
struct Given {
    to: To,
    parcels: mpsc::UnboundedReceiver<Parcel>,
    room: u64,
}

/// Lets a next process get ready. Returns `None` if that has failed, which costs nothing.
async fn attempt(
    start: Start,
    shared: &Shared,
    program: &Arc<Program>,
    limit: Option<Duration>,
) -> Option<Given> {
    let (what, answer) = match start {
        Start::Asked(Err(error)) => {
            // Out of descriptors: another try is not due before some are free.
            say!(shared.log, warn, { error = error.to_string() }, "no take-over: {error}");
            tokio::time::sleep(Duration::from_secs(1)).await;
            return None;
        }
        Start::Asked(Ok(socket)) => {
            let from = socket.peer_cred().ok();
            let is_ours =
                from.is_some_and(|from| from.uid() == rustix::process::geteuid().as_raw());
            if !is_ours {
                say!(shared.log, warn, {}, "no take-over: another user asks for it");
                return None;
            }
            (Next::Asks(Channel::new(socket)), None)
        }
        Start::Signal(signal) => {
            let path = program.path().unwrap_or(Path::new("the next version"));
            say!(
                shared.log,
                info,
                { signal = signal.to_string() },
                "{signal} received, starting {}",
                path.display()
            );
            (Next::Starts(program.clone()), None)
        }
        Start::Request(answer) => (Next::Starts(program.clone()), Some(answer)),
    };
    let name = match what {
        Next::Starts(_) => "upgrade",
        Next::Asks(_) => "take-over",
    };
    let trying = within(limit, what.serves(shared));
    let result = match trying.await {
        Some(result) => result,
        None => Err(format!(
            "the new process was not ready within {}",
            HumanDuration(limit.unwrap_or_default())
        )),
    };
    match result {
        Ok((given, process)) => {
            // State first, then the word.
            shared.manager.main_process(process);
            shared.tell(Event::Upgraded(process));
            moving::succeed();
            if let Some(answer) = answer {
                // Whoever asked may be gone.
                let _ = answer.send(Ok(process));
            }
            Some(given)
        }
        Err(why) => {
            say!(
                shared.log,
                warn,
                { error = why.clone() },
                "{name} failed, this process goes on: {why}"
            );
            if let Some(answer) = answer {
                let _ = answer.send(Err(UpgradeError(why)));
            }
            None
        }
    }
}

/// The next process: one that this one starts, or one that asks.
enum Next {
    Starts(Arc<Program>),
    Asks(Channel),
}

impl Next {
    /// Waits until the next process serves, and lets it begin. If this fails or is dropped, a
    /// process that was started is ended, and one that asked gets a refusal.
    async fn serves(self, shared: &Shared) -> Result<(Given, u32), String> {
        match self {
            Self::Starts(program) => {
                if std::process::id() == 1 {
                    let why = "this is process 1, with which its container ends: use `handover`, \
                               and start the next one beside it";
                    return Err(why.to_owned());
                }
                // By a thread: a file system may be slow, and the sentinel has limits to keep.
                // The drain waits for it: if this is dropped, the thread kills what it has started.
                let name = TaskName::Text("starting the next version".into());
                let hold = TaskGuard::new(&shared.work, Role::Task, name);
                let start = move || (program.start(), hold);
                let (started, hold) = threads::on_own_thread("graceful-start", start)
                    .await
                    .map_err(|error| error.to_string())?;
                // Locals are dropped in reverse: the process first, as in `Started`.
                let Started { folder, listener, process } =
                    started.map_err(|error| error.to_string())?;
                let listener =
                    UnixListener::from_std(listener).map_err(|error| error.to_string())?;
                let mut process = process;
                drop(hold);
                let pid = process.pid();
                let accepting = accept(&listener, pid);
                let channel = unless_it_ends(Some(&mut process), accepting).await?;
                drop(folder);
                let offering = Offering { process: Some(process), channel: Some(channel) };
                let (channel, agreed, _) = offering.agree(shared).await?;
                Ok((begin(channel, agreed), pid))
            }
            Self::Asks(channel) => {
                let offering = Offering { process: None, channel: Some(channel) };
                let (channel, agreed, process) = offering.agree(shared).await?;
                Ok((begin(channel, agreed), process))
            }
        }
    }
}

/// Waits for the process that was started.
async fn accept(listener: &UnixListener, pid: u32) -> Result<Channel, NotAgreed> {
    let failed = |error: io::Error| NotAgreed::refused(&error.to_string());
    loop {
        let (socket, _) = listener.accept().await.map_err(failed)?;
        let peer = socket.peer_cred().map_err(failed)?;
        let is_it = peer.uid() == rustix::process::geteuid().as_raw()
            && peer.pid().is_none_or(|peer| peer.cast_unsigned() == pid);
        if is_it {
            return Ok(Channel::new(socket));
        }
    }
}

/// The `Ready` message of the new process.
struct Agreed {
    wanted: Vec<String>,
    room: u64,
}

/// Why the new process does not begin.
struct NotAgreed {
    why: String,
    /// Whether the connection to it was lost. Then its exit status, if there is one, says more.
    is_lost: bool,
}

impl NotAgreed {
    fn lost(why: &str) -> Self {
        Self { why: why.to_owned(), is_lost: true }
    }

    fn refused(why: &str) -> Self {
        Self { why: why.to_owned(), is_lost: false }
    }
}

/// Waits for `doing`, in which a process that was started takes part. If the process exits, its
/// exit status makes a better error than a closed socket.
async fn unless_it_ends<T>(
    process: Option<&mut NewProcess>,
    doing: impl Future<Output = Result<T, NotAgreed>>,
) -> Result<T, String> {
    let Some(process) = process else { return doing.await.map_err(|error| error.why) };
    let ended = |how| format!("{how} before it was ready");
    match race(process.ended(), doing).await {
        First::Left(how) => Err(ended(how)),
        First::Right(Ok(done)) => Ok(done),
        First::Right(Err(NotAgreed { why, is_lost })) => {
            // A refused process also gets the time to print its error before it is killed.
            let how = within(Some(LAST_WORD), process.ended()).await;
            Err(how.filter(|_| is_lost).map_or(why, ended))
        }
    }
}

/// A next process that may not begin yet. If this is dropped first, because of a limit or a stop, a
/// process that was started is killed, and one that asked is refused, before the socket is closed.
/// On a bare end of file it would assume that this process has died, and accept on listeners that
/// this one still uses, or turns clients away from.
struct Offering {
    /// The process, if this one has started it.
    process: Option<NewProcess>,
    channel: Option<Channel>,
}

impl Drop for Offering {
    fn drop(&mut self) {
        let is_killed = self.process.take().is_some();
        if let Some(channel) = self.channel.take()
            && !is_killed
        {
            turn_away(channel, "it was not ready in time, or the other stops");
        }
    }
}

/// Refuses the process at the other end. If that cannot be sent, the socket stays open until this
/// process ends, so that its end is still what the other takes it for.
fn turn_away(channel: Channel, why: &str) {
    if !channel.refuse(why) {
        std::mem::forget(channel);
    }
}

impl Offering {
    /// Offers the listeners, waits until the new process serves, and lets it begin.
    async fn agree(mut self, shared: &Shared) -> Result<(Channel, Agreed, u32), String> {
        let agreeing = async {
            let lost = || NotAgreed::lost("the new process hung up before it was ready");
            let channel = self.channel.as_mut().ok_or_else(lost)?;
            match agree(channel, shared).await {
                Ok((agreed, process)) => {
                    let channel = self.channel.take().ok_or_else(lost)?;
                    Ok((channel, agreed, process))
                }
                Err(error) => {
                    // If the refusal cannot be sent, `drop` closes the socket, after it has killed
                    // a process that was started.
                    if channel.refuse(&error.why) {
                        self.channel = None;
                    }
                    Err(error)
                }
            }
        };
        let agreed = unless_it_ends(self.process.as_mut(), agreeing).await?;
        if let Some(process) = &mut self.process {
            process.let_go();
        }
        Ok(agreed)
    }
}

async fn agree(channel: &mut Channel, shared: &Shared) -> Result<(Agreed, u32), NotAgreed> {
    let lost = |error: io::Error| {
        NotAgreed::lost(&format!("the new process cannot be talked to: {error}"))
    };
    let offers = moving::offers().map_err(|error| {
        NotAgreed::refused(&format!("the listening sockets cannot be passed on: {error}"))
    })?;
    let offered: Vec<_> = offers.iter().map(|offer| offer.listener.clone()).collect();
    for batch in Batch::all(&offering(offers)) {
        channel.send(batch).await.map_err(lost)?;
    }
    let mut process = 0;
    let agreed = loop {
        match channel.receive().await.map_err(lost)? {
            Some(Message::Hello { process: number, .. }) => process = number,
            Some(Message::Ready { wanted, room }) => {
                if !offered.is_empty() && !offered.iter().any(|it| wanted.contains(it)) {
                    return Err(NotAgreed::refused(
                        "it serves none of the addresses of this process",
                    ));
                }
                break Agreed { wanted, room };
            }
            Some(_) => {}
            None => return Err(NotAgreed::lost("the new process hung up before it was ready")),
        }
    };
    if shared.phase.is_stopping() {
        return Err(NotAgreed::refused("the program stops"));
    }
    channel.tell(Message::Begin).await.map_err(lost)?;
    loop {
        match channel.receive().await.map_err(lost)? {
            Some(Message::Begun) => break,
            Some(_) => {}
            None => return Err(NotAgreed::lost("the new process ended when it was to begin")),
        }
    }
    // Sent whole or not at all. Once it is sent there is no way back, so nothing is awaited between
    // here and `moving::succeed`.
    channel.tell(Message::Go).await.map_err(lost)?;
    Ok((agreed, process))
}

/// Starts to send connections to the new process, which has heard that it may begin.
fn begin(channel: Channel, agreed: Agreed) -> Given {
    let Agreed { wanted, room } = agreed;
    Given { to: To::Process(channel), parcels: moving::begin_giving(wanted), room }
}

/// Sends connections as they come.
async fn give(
    to: &mut To,
    mut parcels: mpsc::UnboundedReceiver<Parcel>,
    mut room: u64,
) -> Infallible {
    let mut batch = Vec::with_capacity(MOST);
    loop {
        if parcels.recv_many(&mut batch, MOST).await == 0 {
            return std::future::pending().await;
        }
        // Those that there are no descriptors for over there stay.
        let fitting = batch.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        for Parcel { moved, answer } in batch.drain(fitting..) {
            // The task may have been cut.
            let _ = answer.send(Some(moved.socket));
        }
        if batch.is_empty() {
            continue;
        }
        let (mut messages, mut answers): (Vec<_>, Vec<_>) =
            batch.drain(..).map(|it| (Message::from(it.moved), it.answer)).unzip();
        while !messages.is_empty() {
            let sending = Batch::of(&messages);
            let count = sending.count;
            // One that no reader takes stays as well.
            let sent = sending.is_readable() && to.send(sending).await.is_ok();
            if sent {
                room -= count as u64;
            }
            for (message, answer) in messages.drain(..count).zip(answers.drain(..count)) {
                let _ = answer.send(message.into_socket().filter(|_| !sent));
            }
        }
    }
}
