//! The promise of `docs/protocol.md` on real processes and a real database, while these are stopped, disconnected,
//! crashed and restarted. `SOPHIC_AUTH_TEST_FAULT_ROUNDS` sets the number of rounds.

mod cancelled;
mod cluster;
mod failover;
mod history;
mod site;

use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;

use cluster::Cluster;
use site::{LEASE, Site};

use crate::stores::Database;
use crate::waits::{eventually, let_time_pass};

fn rounds() -> usize {
    let asked = std::env::var("SOPHIC_AUTH_TEST_FAULT_ROUNDS").ok();
    asked.map_or(1, |text| text.parse().expect("a number of rounds"))
}

/// Stops a server for this many thousandths of a lease, with requests in its socket.
async fn freeze(site: &Site, server: usize, thousandths: u32) {
    site.signal(server, Signal::STOP);
    let_time_pass("this part of a lease", LEASE * thousandths / 1_000).await;
    site.signal(server, Signal::CONT);
    site.progress(3).await;
}

/// Kills servers and starts others while revocations wait for them.
async fn replace_some(site: &Arc<Site>, server: usize) {
    site.signal(server, Signal::STOP);
    // Every revocation now waits for the stopped server.
    let_time_pass("less than a lease", LEASE / 4).await;
    for other in [server, (server + 1) % site.servers()] {
        let site = Arc::clone(site);
        let replaced = tokio::task::spawn_blocking(move || site.replace(other));
        replaced.await.expect("another starts");
    }
    site.progress(5).await;
}

async fn round(site: &Arc<Site>, cluster: &Cluster, round: usize) {
    let server = round % site.servers();
    for thousandths in [500, 990, 1_010, 3_000] {
        freeze(site, (server + 1) % site.servers(), thousandths).await;
    }
    for cut in 0..10 {
        // Only listeners, except for every fifth cut, which ends all connections.
        cluster.cut(cut % 5 != 4).await;
        site.progress(2).await;
    }
    cluster.restart("fast").await;
    site.progress(5).await;
    cluster.restart("immediate").await;
    site.progress(5).await;
    replace_some(site, server).await;
}

fn report(site: &Site) {
    let events = site.history.events();
    let wrong = history::violations(&events);
    let [created, active, dead, revoked, unknown] = history::counts(&events);
    #[expect(clippy::print_stdout, reason = "the figures for docs/protocol.md")]
    {
        println!(
            "{created} keys created, {revoked} revocations returned and {unknown} not, \
             {active} answers said active and {dead} not, {} wrong",
            wrong.len()
        );
    }
    assert!(wrong.is_empty(), "{wrong:?}");
    history::assert_that_moved_answers_are_noticed(&events);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_servers_keep_the_promise_through_every_fault() {
    let cluster = Cluster::start().await;
    let site = Site::start(&cluster.url, 3).await;
    let clients = site.load(5, 6);
    site.progress(5).await;
    for number in 0..rounds() {
        round(&site, &cluster, number).await;
    }
    site.finish(clients).await;
    site.assert_recovered().await;
    // Revocations wait at most once more for the servers that were killed.
    site.revoke_one_more().await;
    eventually("three replicas are left", async || cluster.replicas().await == 3).await;
    report(&site);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_and_the_command_line_keep_the_promise_on_one_file() {
    let database = Database::sqlite();
    let site = Site::start(&database.url(), 1).await;
    let clients = site.load(2, 2);
    for number in 0..4 * rounds() {
        site.progress(2).await;
        let other = Arc::clone(&site);
        let command = tokio::task::spawn_blocking(move || {
            let (first, second) = (other.create_by_command(), other.create_by_command());
            other.revoke_by_command(&first);
            second
        });
        let moment = Duration::from_millis(60 * (number as u64 % 5));
        let_time_pass("up to some moment of it, or after it", moment).await;
        let other = Arc::clone(&site);
        let replaced = tokio::task::spawn_blocking(move || other.replace(0));
        replaced.await.expect("another starts");
        let second = command.await.expect("the command line does its work");
        assert!(site.ask(&second, 0).await.is_none_or(|active| active));
    }
    site.finish(clients).await;
    site.assert_recovered().await;
    report(&site);
}
