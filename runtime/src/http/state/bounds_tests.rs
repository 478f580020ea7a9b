//! The deadlines of every state, each moment at a time of its own.

use std::time::{Duration, Instant};

use super::{
    bounds::{Due, InService, Moments},
    table::State::{self, Busy, Delivering, Fresh, Head, Http2, Idle, Named, Queued, Upgraded},
};
use crate::net::KernelView;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Each of them at a time of its own, so that none is taken for another.
fn moments(start: Instant) -> Moments {
    Moments {
        accepted: start,
        since: start + ms(10_000),
        draining: None,
        header_timeout: Some(ms(30_000)),
        in_service: InService::default(),
        linger: ms(250),
        view: None,
        has_streams: false,
        partial: None,
    }
}

fn view(start: Instant) -> KernelView {
    KernelView {
        at: start + ms(20_100),
        is_to_come: false,
        round_trip: ms(70),
        last_ack: Some(start + ms(10_500)),
        undelivered: false,
        unread: false,
        window: None,
        last_unread: None,
    }
}

/// The deadlines in milliseconds from the accept.
fn deadlines(moments: &Moments) -> Vec<(State, u128)> {
    let millis = |at: Instant| at.duration_since(moments.accepted).as_millis();
    let all = State::ALL.iter();
    all.filter_map(|it| it.deadline(moments).map(|at| (*it, millis(at)))).collect()
}

#[test]
fn in_service() {
    let start = Instant::now();
    let moments = moments(start);
    let expected = [(Fresh, 30_000), (Head, 40_000)];
    assert_eq!(deadlines(&moments), expected);
    for (state, _) in expected {
        assert_eq!(state.due(&moments), Due::End, "{state:?}");
    }
    let without = Moments { header_timeout: None, ..moments };
    assert_eq!(deadlines(&without), []);
}

#[test]
fn in_service_as_the_program_has_set() {
    let start = Instant::now();
    let at = |millis| Some(start + ms(millis));
    let limit = |in_service| Moments { in_service, ..moments(start) };
    let idle = limit(InService { keep_alive: Some(ms(5_000)), ..InService::default() });
    assert_eq!((Idle.deadline(&idle), Idle.due(&idle)), (at(15_000), Due::End));
    assert_eq!((Http2.deadline(&idle), Http2.due(&idle)), (at(15_000), Due::Retire));
    let busy = Moments { has_streams: true, ..idle };
    assert_eq!((Http2.deadline(&busy), Busy.deadline(&idle)), (None, None));
    let old = limit(InService { retires: at(12_000), ..idle.in_service });
    for state in [Idle, Busy, Http2] {
        assert_eq!((state.deadline(&old), state.due(&old)), (at(12_000), Due::Retire));
    }
    // What has a bound of its own, or has left HTTP, does not care.
    assert_eq!((Head.due(&old), Upgraded.deadline(&old)), (Due::End, None));
}

#[test]
fn in_the_drain_the_kernel_is_asked_first() {
    let start = Instant::now();
    let draining = Moments { draining: Some(start + ms(20_000)), ..moments(start) };
    let asked_first = [Fresh, Idle, Delivering, Http2];
    for state in asked_first {
        assert_eq!(state.deadline(&draining), draining.draining, "{state:?}");
        assert_eq!(state.due(&draining), Due::AskKernel, "{state:?}");
    }
    let others = deadlines(&draining).into_iter().filter(|(it, _)| !asked_first.contains(it));
    let expected = [(Head, 21_000), (Named, 21_000), (Queued, 21_000)];
    assert_eq!(others.collect::<Vec<_>>(), expected);
    // Entered after the drain; and a header timeout that is nearer than the second.
    let late = Moments { since: start + ms(20_400), header_timeout: Some(ms(300)), ..draining };
    assert_eq!(Named.deadline(&late), Some(start + ms(21_400)));
    assert_eq!(Head.deadline(&late), Some(start + ms(20_700)));
}

#[test]
fn in_the_drain_as_the_client_sees_it() {
    let start = Instant::now();
    let at = |millis| Some(start + ms(millis));
    let known = Moments { draining: at(20_000), view: Some(view(start)), ..moments(start) };
    // From the accept, or the handshake, two round trips more; from the last acknowledgement the
    // linger.
    assert_eq!((Fresh.deadline(&known), Fresh.due(&known)), (at(10_000 + 250 + 140), Due::End));
    assert_eq!((Idle.deadline(&known), Idle.due(&known)), (at(10_750), Due::End));
    assert_eq!((Delivering.deadline(&known), Delivering.due(&known)), (at(20_170), Due::AskKernel));
    // A look that is older than the deadline is void by then; one that is younger is the last.
    assert_eq!((Http2.deadline(&known), Http2.due(&known)), (at(21_000), Due::AskKernel));
    let viewed = |change: &dyn Fn(&mut KernelView)| {
        let mut view = view(start);
        change(&mut view);
        Moments { view: Some(view), ..known }
    };
    let fresh_view = viewed(&|view| view.at = start + ms(21_000));
    assert_eq!(Http2.due(&fresh_view), Due::End);
    let no_ack = viewed(&|view| view.last_ack = None);
    assert_eq!(Idle.deadline(&no_ack), at(10_000 + 70 + 250));
    let unread = viewed(&|view| view.last_unread = at(20_050));
    assert_eq!(Idle.deadline(&unread), at(20_300));
    assert_eq!(Http2.deadline(&unread), at(21_050));
    let undelivered = viewed(&|view| view.undelivered = true);
    assert_eq!(Delivering.deadline(&undelivered), at(20_170));
    let near = viewed(&|view| (view.undelivered, view.round_trip) = (true, ms(1)));
    assert_eq!(Delivering.deadline(&near), at(20_110));
    let busy = Moments { has_streams: true, ..known };
    assert_eq!(Http2.deadline(&busy), None);
}

/// Half a record of TLS, or half a frame of HTTP/2, is half a head.
#[test]
fn half_a_record_has_the_time_of_half_a_head() {
    let start = Instant::now();
    let at = |millis| Some(start + ms(millis));
    let partial = Moments { partial: at(10_400), ..moments(start) };
    for state in [Idle, Delivering] {
        assert_eq!((state.deadline(&partial), state.due(&partial)), (at(40_400), Due::End));
    }
    // A new one has had its time since the accept; what is under way does not care.
    assert_eq!((Fresh.deadline(&partial), Busy.deadline(&partial)), (at(30_000), None));
    let idle = InService { keep_alive: Some(ms(5_000)), ..InService::default() };
    let timed = Moments { in_service: idle, ..partial };
    assert_eq!((Idle.deadline(&timed), Idle.due(&timed)), (at(40_400), Due::End));
    let draining = Moments { draining: at(20_000), view: Some(view(start)), ..partial };
    for state in [Fresh, Idle, Delivering] {
        assert_eq!((state.deadline(&draining), state.due(&draining)), (at(21_000), Due::End));
    }
    let later = Moments { partial: at(20_700), ..draining };
    assert_eq!(Idle.deadline(&later), at(21_700));
    assert_eq!((Http2.deadline(&later), Http2.due(&later)), (at(21_700), Due::AskKernel));
    let short = Moments { header_timeout: Some(ms(300)), ..later };
    assert_eq!(Idle.deadline(&short), at(21_000));
}

/// Without netlink the kernel's answer may have yet to come.
#[test]
fn an_answer_that_is_to_come_is_asked_for_again() {
    let start = Instant::now();
    let mut view = view(start);
    view.is_to_come = true;
    let draining = Some(start + ms(20_000));
    let waits = Moments { draining, view: Some(view), ..moments(start) };
    for state in [Fresh, Idle, Delivering, Http2] {
        assert_eq!(state.deadline(&waits), Some(view.at + ms(20)), "{state:?}");
        assert_eq!(state.due(&waits), Due::AskKernel, "{state:?}");
    }
}
