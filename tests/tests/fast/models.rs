//! The order of a hand-over and of a drain as small models, walked in every interleaving: nobody
//! who was let in is lost, and as long as nobody stops, somebody listens.
//!
//! What is modelled is what the two processes and the kernel tell each other, step by step, as in
//! `handover/give.rs`, `handover/take.rs` and `net/accept.rs`. Each model is also walked with the
//! mistakes that have been made, or that its order is there against, and has to find them: a model
//! that finds nothing proves nothing.

use std::{
    collections::{HashSet, VecDeque},
    fmt::Debug,
    hash::Hash,
};

/// A state of a model.
trait Model: Clone + Eq + Hash + Debug {
    /// What can happen next, each with its name.
    fn next(&self) -> Vec<(&'static str, Self)>;

    /// What is wrong in this state; `is_last`: nothing can happen any more.
    fn wrong(&self, is_last: bool) -> Option<&'static str>;

    /// This state but for a change.
    fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut next = self.clone();
        change(&mut next);
        next
    }
}

/// Walks all that can happen. Returns how many states there are.
///
/// # Errors
///
/// What is wrong in a state, and the shortest way to it.
fn walk<M: Model>(start: M) -> Result<usize, String> {
    let mut seen = HashSet::from([start.clone()]);
    let mut open = VecDeque::from([(start, Vec::new())]);
    while let Some((state, way)) = open.pop_front() {
        let next = state.next();
        if let Some(wrong) = state.wrong(next.is_empty()) {
            return Err(format!("{wrong}, by {way:?}: {state:#?}"));
        }
        for (step, next) in next {
            if seen.insert(next.clone()) {
                let way = way.iter().copied().chain([step]).collect::<Vec<&str>>();
                open.push_back((next, way));
            }
        }
    }
    Ok(seen.len())
}

// The hand-over.

/// A message, as in `handover/message.rs`; `End`: the socket is closed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Word {
    Ready,
    Begin,
    Begun,
    Go,
    Connection,
    Done,
    Refused,
    End,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Old {
    /// It has offered its listeners, and waits for `Ready`.
    Offers,
    /// It has said `Begin`.
    Asks,
    /// It goes on by itself: the other one has failed, or was not ready in time.
    GoesOn,
    /// It has said `Go`, and gives its connection away.
    Gives,
    /// It has told the new one that there is no more.
    HasGiven,
    /// It stops without a next process: new clients are turned away.
    Drains,
    Ended,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum New {
    Starts,
    /// It has said `Ready`.
    IsReady,
    /// It has said `Begun`, and does not know whose the listeners are.
    Asks,
    /// The listeners are its.
    Serves,
    /// It takes what comes, and turns new clients away.
    Drains,
    Ended,
}

/// The client that waits in the queue of the listener, or comes to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Client {
    Away,
    Queued,
    /// By whoever will answer it.
    Accepted,
    /// By a new process that may not begin.
    AcceptedEarly,
    /// It knows that nobody has read a byte of it.
    Refused,
    /// The old process was killed, and nobody had taken its place.
    LostWithTheDead,
    Lost,
}

/// Who has a connection between two requests.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Kept {
    ByOld,
    OnItsWay,
    ByNew,
    /// It got its goodbye.
    Closed,
    Lost,
}

/// Mistakes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Mistake {
    None,
    /// The new process takes an error in writing for the end of the old one.
    DoesNotHear,
    /// The old process closes the socket without a word, and then kills.
    HangsUpFirst,
    /// The new process that stops leaves the listeners to the old one, whatever it has said.
    LeavesWhileAsked,
    /// The old process goes as soon as it has heard `Ready`.
    GoesAtReady,
    /// The new process accepts as soon as it serves.
    AcceptsEarly,
    /// The new process hangs up and forgets what was sent before.
    ForgetsWhatCame,
    /// The new process that has waited long enough gives up without a look at what has come.
    GivesUpBlindly,
    /// And takes an old process that has died for one that hangs.
    GivesUpOnTheDead,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "what is true of two processes and a kernel")]
struct HandOver {
    mistake: Mistake,
    /// Whether the old process has started the new one, and can kill it.
    is_child: bool,
    old: Old,
    new: New,
    to_new: VecDeque<Word>,
    to_old: VecDeque<Word>,
    /// Whether the new process takes no more.
    has_hung_up: bool,
    /// Whether SIGTERM has come, to each of the two.
    stopped: (bool, bool),
    /// Whether SIGKILL has, which may take a moment if a process does not look.
    is_dying: bool,
    /// Whether the old process was killed, with what it had.
    is_killed: bool,
    /// Whether the kernel lets clients in.
    lets_in: bool,
    client: Client,
    kept: Kept,
}

impl HandOver {
    fn new(mistake: Mistake, is_child: bool) -> Self {
        Self {
            mistake,
            is_child,
            old: Old::Offers,
            new: New::Starts,
            to_new: VecDeque::new(),
            to_old: VecDeque::new(),
            has_hung_up: false,
            stopped: (false, false),
            is_dying: false,
            is_killed: false,
            lets_in: true,
            client: Client::Away,
            kept: Kept::ByOld,
        }
    }

    /// Whether the socket can still be written to by the new process.
    fn old_reads(&self) -> bool {
        !self.to_new.contains(&Word::End)
    }

    fn refuse(&mut self) {
        if self.mistake == Mistake::HangsUpFirst {
            self.to_new.push_back(Word::End);
            self.is_dying = self.is_child;
        } else {
            if self.is_child {
                self.end_new();
            }
            self.to_new.extend([Word::Refused, Word::End]);
        }
    }

    fn accept(&mut self) {
        if self.client == Client::Queued {
            self.client = Client::Accepted;
        }
    }

    /// Whoever has the listener is gone; `had_it`: and knew that it was its.
    fn close_listener(&mut self, had_it: bool) {
        let somebody = self.old != Old::Ended || self.new != New::Ended;
        if !somebody && self.client == Client::Queued {
            let is_excused = self.is_killed && !had_it;
            self.client = if is_excused { Client::LostWithTheDead } else { Client::Lost };
        }
    }

    fn end_old(&mut self) {
        self.old = Old::Ended;
        if self.kept == Kept::ByOld {
            self.kept = Kept::Lost;
        }
        if self.old_reads() {
            self.to_new.push_back(Word::End);
        }
        self.close_listener(!self.is_killed);
    }

    fn end_new(&mut self) {
        self.end_new_that(matches!(self.new, New::Asks | New::Serves | New::Drains));
    }

    /// `had_it`: it was its part to empty the queue.
    fn end_new_that(&mut self, had_it: bool) {
        if self.new == New::Ended {
            return;
        }
        let may_answer = matches!(self.new, New::Serves | New::Drains);
        if !may_answer && self.client == Client::AcceptedEarly {
            self.client = Client::Lost;
        }
        self.new = New::Ended;
        let is_sent = self.to_new.contains(&Word::Connection);
        if self.kept == Kept::ByNew || self.kept == Kept::OnItsWay && is_sent {
            self.kept = Kept::Lost;
        }
        self.to_old.push_back(Word::End);
        self.close_listener(had_it);
    }

    #[allow(clippy::too_many_lines, reason = "a table of what it does in each state")]
    fn old_steps(&self, steps: &mut Vec<(&'static str, Self)>) {
        let may_stop = !self.stopped.0 && self.old != Old::Ended;
        if may_stop {
            steps.push((
                "SIGTERM to the old process",
                self.with(|it| {
                    it.stopped.0 = true;
                    match it.old {
                        Old::Offers | Old::Asks => {
                            it.refuse();
                            it.old = Old::Drains;
                            it.lets_in = false;
                        }
                        Old::GoesOn => {
                            it.old = Old::Drains;
                            it.lets_in = false;
                        }
                        // It drains already.
                        Old::Gives | Old::HasGiven | Old::Drains | Old::Ended => {}
                    }
                }),
            ));
        }
        if self.old != Old::Ended {
            steps.push((
                "SIGKILL to the old process",
                self.with(|it| {
                    it.is_killed = true;
                    it.end_old();
                }),
            ));
        }
        match self.old {
            Old::Offers | Old::Asks => {
                steps.push((
                    "not ready in time",
                    self.with(|it| {
                        it.refuse();
                        it.old = Old::GoesOn;
                    }),
                ));
                let mut heard = self.clone();
                match (self.old, heard.to_old.pop_front()) {
                    (_, None) => {}
                    (Old::Offers, Some(Word::Ready)) => {
                        if self.mistake == Mistake::GoesAtReady {
                            heard.old = Old::Gives;
                            heard.to_new.extend([Word::Begin, Word::Go]);
                        } else {
                            heard.old = Old::Asks;
                            heard.to_new.push_back(Word::Begin);
                        }
                        steps.push(("the old one hears Ready", heard));
                    }
                    (_, Some(Word::Begun)) if self.has_hung_up || self.new == New::Ended => {
                        heard.refuse();
                        heard.old = Old::GoesOn;
                        steps.push(("the old one cannot say Go", heard));
                    }
                    (_, Some(Word::Begun)) => {
                        heard.old = Old::Gives;
                        heard.to_new.push_back(Word::Go);
                        steps.push(("the old one hears Begun", heard));
                    }
                    (_, Some(_)) => {
                        heard.refuse();
                        heard.old = Old::GoesOn;
                        steps.push(("the old one hears the end of the new one", heard));
                    }
                }
                self.accepting(steps);
            }
            Old::GoesOn => self.accepting(steps),
            Old::Gives => {
                let is_gone = self.has_hung_up || self.new == New::Ended;
                steps.push((
                    "the old one gives its connection, or says goodbye to it",
                    self.with(|it| {
                        it.old = Old::HasGiven;
                        if is_gone {
                            it.kept = Kept::Closed;
                        } else {
                            it.kept = Kept::OnItsWay;
                            it.to_new.push_back(Word::Connection);
                        }
                    }),
                ));
            }
            Old::HasGiven => steps.push((
                "the old one ends",
                self.with(|it| {
                    it.to_new.push_back(Word::Done);
                    it.end_old();
                }),
            )),
            Old::Drains => steps.push((
                "the old one empties the queue, says goodbye, and ends",
                self.with(|it| {
                    it.accept();
                    it.kept = Kept::Closed;
                    it.end_old();
                }),
            )),
            Old::Ended => {}
        }
    }

    fn accepting(&self, steps: &mut Vec<(&'static str, Self)>) {
        if self.client == Client::Queued {
            steps.push(("the old one accepts", self.with(Self::accept)));
        }
    }

    #[allow(clippy::too_many_lines, reason = "a table of what it does in each state")]
    fn new_steps(&self, steps: &mut Vec<(&'static str, Self)>) {
        if self.is_dying && self.new != New::Ended {
            steps.push((
                "SIGKILL is there",
                self.with(|it| {
                    if it.client == Client::Accepted && it.new == New::Serves {
                        it.client = Client::Lost;
                    }
                    it.end_new();
                }),
            ));
        }
        if !self.stopped.1 && self.new != New::Ended {
            steps.push((
                "SIGTERM to the new process",
                self.with(|it| {
                    it.stopped.1 = true;
                    match it.new {
                        New::Starts | New::IsReady => it.end_new(),
                        New::Asks if it.mistake == Mistake::LeavesWhileAsked => it.end_new(),
                        New::Serves => it.drain_new(),
                        // One that asks hears the answer first.
                        New::Asks | New::Drains | New::Ended => {}
                    }
                }),
            ));
        }
        if self.new == New::Asks && self.stopped.1 && !self.has_hung_up {
            steps.push(("the new one has waited long enough", self.with(Self::give_up)));
        }
        let mut heard = self.clone();
        match self.new {
            New::Starts => {
                // Before it says something it hears what is there.
                match heard.to_new.front() {
                    Some(Word::Refused) if self.mistake != Mistake::DoesNotHear => {
                        heard.end_new();
                        steps.push(("the new one hears a refusal", heard));
                        return;
                    }
                    Some(Word::End) => {
                        heard.new = New::Serves;
                        steps.push(("the new one hears the end of the old one", heard));
                        return;
                    }
                    _ => {}
                }
                steps.push((
                    "the new one is ready",
                    self.with(|it| {
                        it.new = New::IsReady;
                        if it.old_reads() {
                            it.to_old.push_back(Word::Ready);
                        } else if it.mistake == Mistake::DoesNotHear {
                            it.new = New::Serves;
                        }
                        let is_early = it.mistake == Mistake::AcceptsEarly;
                        if is_early && it.client == Client::Queued {
                            it.client = Client::AcceptedEarly;
                        }
                    }),
                ));
            }
            New::IsReady | New::Asks => match (self.new, heard.to_new.pop_front()) {
                (_, None) => {}
                (New::IsReady, Some(Word::Begin)) => {
                    heard.new = New::Asks;
                    if heard.old_reads() {
                        heard.to_old.push_back(Word::Begun);
                    } else if self.mistake == Mistake::DoesNotHear {
                        heard.new = New::Serves;
                    }
                    steps.push(("the new one hears Begin", heard));
                }
                (_, Some(Word::Refused)) => {
                    heard.end_new_that(false);
                    steps.push(("the new one hears a refusal", heard));
                }
                (_, Some(_)) => {
                    heard.new = New::Serves;
                    if heard.stopped.1 {
                        heard.drain_new();
                    }
                    steps.push(("the new one hears Go, or the end of the old one", heard));
                }
            },
            New::Serves | New::Drains => {
                if self.new == New::Serves && self.client == Client::Queued {
                    steps.push(("the new one accepts", self.with(Self::accept)));
                }
                match heard.to_new.pop_front() {
                    Some(Word::Connection) => {
                        let is_forgotten =
                            self.has_hung_up && self.mistake == Mistake::ForgetsWhatCame;
                        heard.kept = match self.new {
                            _ if is_forgotten => Kept::Lost,
                            New::Serves => Kept::ByNew,
                            _ => Kept::Closed,
                        };
                        steps.push(("the new one takes a connection", heard));
                    }
                    Some(_) => steps.push(("the new one hears something", heard)),
                    None => {}
                }
                let is_over = self.to_new.is_empty() && self.old == Old::Ended
                    || self.has_hung_up && !self.to_new.contains(&Word::Connection);
                if self.new == New::Drains && is_over {
                    steps.push((
                        "the new one empties the queue, says goodbye, and ends",
                        self.with(|it| {
                            it.accept();
                            if it.kept == Kept::ByNew {
                                it.kept = Kept::Closed;
                            }
                            it.end_new();
                        }),
                    ));
                }
            }
            New::Ended => {}
        }
    }

    fn give_up(&mut self) {
        self.has_hung_up = true;
        let has_come = match self.mistake {
            Mistake::GivesUpBlindly => None,
            _ => self.to_new.iter().find(|word| matches!(word, Word::Go | Word::Refused)),
        };
        match has_come {
            Some(Word::Go) => self.drain_new(),
            Some(_) => self.end_new_that(false),
            None if self.old == Old::Ended && self.mistake != Mistake::GivesUpOnTheDead => {
                self.drain_new();
            }
            None => self.end_new(),
        }
    }

    fn drain_new(&mut self) {
        self.new = New::Drains;
        self.lets_in = false;
        // The others stay with the old process.
        self.has_hung_up = true;
    }
}

impl Model for HandOver {
    fn next(&self) -> Vec<(&'static str, Self)> {
        let mut steps = Vec::new();
        if self.client == Client::Away {
            let listens = self.lets_in && (self.old != Old::Ended || self.new != New::Ended);
            let client = if listens { Client::Queued } else { Client::Refused };
            steps.push(("a client comes", self.with(|it| it.client = client)));
        }
        self.old_steps(&mut steps);
        self.new_steps(&mut steps);
        steps
    }

    fn wrong(&self, is_last: bool) -> Option<&'static str> {
        let is_stopped = self.stopped.0 || self.stopped.1 || self.is_killed;
        match self {
            Self { client: Client::Lost, .. } => Some("a client is lost"),
            Self {
                old: Old::Offers | Old::Asks | Old::GoesOn | Old::Drains,
                new: New::Serves | New::Drains,
                ..
            } => Some("both serve"),
            // With whoever was killed.
            Self { kept: Kept::Lost, is_killed: false, .. } => Some("a connection is lost"),
            Self { client: Client::Refused, .. } if !is_stopped => Some("a client is refused"),
            Self { kept: Kept::Closed, .. } if !is_stopped => Some("a connection is closed"),
            Self { client: Client::Queued, .. } if is_last => Some("nobody accepts"),
            Self { kept: Kept::OnItsWay, .. } if is_last => Some("nobody has a connection"),
            Self { old: Old::Ended, new: New::Ended, .. } if !is_stopped => Some("nobody is left"),
            _ => None,
        }
    }
}

#[test]
fn a_hand_over_loses_nobody_in_any_order() {
    for is_child in [false, true] {
        let states =
            walk(HandOver::new(Mistake::None, is_child)).unwrap_or_else(|wrong| panic!("{wrong}"));
        println!("a hand-over, to a child: {is_child}: {states} states");
        assert!(states > 300, "{states}");
    }
}

#[test]
fn the_model_of_a_hand_over_finds_each_mistake() {
    for (mistake, is_child) in [
        (Mistake::DoesNotHear, false),
        (Mistake::HangsUpFirst, false),
        (Mistake::HangsUpFirst, true),
        (Mistake::LeavesWhileAsked, false),
        (Mistake::LeavesWhileAsked, true),
        (Mistake::GoesAtReady, true),
        (Mistake::AcceptsEarly, true),
        (Mistake::ForgetsWhatCame, true),
        (Mistake::GivesUpBlindly, true),
        (Mistake::GivesUpOnTheDead, true),
    ] {
        let found = walk(HandOver::new(mistake, is_child));
        let wrong = found.err().unwrap_or_else(|| panic!("{mistake:?} is not found"));
        println!("{mistake:?}: {}", wrong.lines().next().unwrap());
    }
}

// The drain of a listener, but for its deadline: a handshake that is not complete after a second is
// waited for only as long as others are served.

/// A client of a listener that is about to close.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Comer {
    Away,
    /// Its SYN has been answered.
    HalfOpen,
    Queued,
    Accepted,
    Refused,
    Lost,
    /// It has given up within the handshake.
    Gone,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Closing {
    Serves,
    /// New clients are turned away.
    Refuses,
    /// The kernel has said who is on the way.
    Knows,
    /// The queue has been emptied since.
    Waits,
    Closed,
}

/// The order in which a listener is closed that the model is against.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Disorder {
    None,
    AsksBeforeItRefuses,
    EmptiesBeforeItAsks,
    NeverAsks,
    /// Who is not on the way any more is not in the queue either.
    DoesNotEmptyAgain,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Drain {
    disorder: Disorder,
    closing: Closing,
    comers: [Comer; 2],
    /// Those on the way, as the kernel has said.
    arriving: [bool; 2],
    is_emptied: bool,
}

impl Drain {
    fn ask(&mut self) {
        self.arriving = self.comers.map(|comer| comer == Comer::HalfOpen);
    }

    fn empty(&mut self) {
        for comer in self.comers.iter_mut().filter(|comer| **comer == Comer::Queued) {
            *comer = Comer::Accepted;
        }
    }

    fn close(&mut self) {
        self.closing = Closing::Closed;
        for comer in &mut self.comers {
            if matches!(comer, Comer::Queued | Comer::HalfOpen) {
                *comer = Comer::Lost;
            }
        }
    }
}

impl Model for Drain {
    fn next(&self) -> Vec<(&'static str, Self)> {
        use Disorder::{AsksBeforeItRefuses, DoesNotEmptyAgain, EmptiesBeforeItAsks, NeverAsks};
        let mut steps = Vec::new();
        // The kernel, and the clients.
        for at in 0..self.comers.len() {
            let mut becomes =
                |step, comer| steps.push((step, self.with(|it| it.comers[at] = comer)));
            match self.comers[at] {
                Comer::Away if self.closing == Closing::Serves => becomes("a SYN", Comer::HalfOpen),
                Comer::Away => becomes("a SYN that is refused", Comer::Refused),
                Comer::HalfOpen if self.closing != Closing::Closed => {
                    becomes("an ACK", Comer::Queued);
                    becomes("a client gives up", Comer::Gone);
                }
                _ => {}
            }
        }
        let mut step = |name, change: fn(&mut Self)| steps.push((name, self.with(change)));
        match self.closing {
            Closing::Serves => {
                step("accept", Self::empty);
                if self.disorder == AsksBeforeItRefuses {
                    step("ask, and then refuse", |it| {
                        it.ask();
                        it.is_emptied = true;
                    });
                }
                if self.disorder != AsksBeforeItRefuses || self.is_emptied {
                    step("refuse", |it| it.closing = Closing::Refuses);
                }
            }
            Closing::Refuses if self.disorder == AsksBeforeItRefuses => {
                step("knows already", |it| it.closing = Closing::Knows);
            }
            Closing::Refuses if self.disorder == NeverAsks => {
                step("knows nothing", |it| it.closing = Closing::Knows);
            }
            Closing::Refuses if self.disorder == EmptiesBeforeItAsks && !self.is_emptied => {
                step("empty", |it| {
                    it.empty();
                    it.is_emptied = true;
                });
            }
            Closing::Refuses => step("ask", |it| {
                it.ask();
                it.closing = Closing::Knows;
            }),
            Closing::Knows if self.disorder == EmptiesBeforeItAsks => {
                step("was emptied", |it| it.closing = Closing::Waits);
            }
            Closing::Knows => step("empty", |it| {
                it.empty();
                it.closing = Closing::Waits;
            }),
            Closing::Waits if self.arriving == [false; 2] => step("close", Self::close),
            Closing::Waits => step("ask again", |it| {
                let still = it.comers.map(|comer| comer == Comer::HalfOpen);
                for (was, is) in it.arriving.iter_mut().zip(still) {
                    *was &= is;
                }
                if it.disorder != DoesNotEmptyAgain {
                    it.closing = Closing::Knows;
                }
            }),
            Closing::Closed => {}
        }
        steps
    }

    fn wrong(&self, is_last: bool) -> Option<&'static str> {
        let loses = self.comers.contains(&Comer::Lost);
        let is_left = is_last && self.closing != Closing::Closed;
        loses.then_some("a client is lost").or(is_left.then_some("the listener stays open"))
    }
}

impl Drain {
    fn new(disorder: Disorder) -> Self {
        Self {
            disorder,
            closing: Closing::Serves,
            comers: [Comer::Away; 2],
            arriving: [false; 2],
            is_emptied: false,
        }
    }
}

#[test]
fn a_drain_loses_nobody_in_any_order() {
    let states = walk(Drain::new(Disorder::None)).unwrap_or_else(|wrong| panic!("{wrong}"));
    println!("a drain: {states} states");
    assert!(states > 50, "{states}");
    for disorder in [
        Disorder::AsksBeforeItRefuses,
        Disorder::EmptiesBeforeItAsks,
        Disorder::NeverAsks,
        Disorder::DoesNotEmptyAgain,
    ] {
        let wrong = walk(Drain::new(disorder)).err();
        let wrong = wrong.unwrap_or_else(|| panic!("{disorder:?} is not found"));
        println!("{disorder:?}: {}", wrong.lines().next().unwrap());
    }
}
