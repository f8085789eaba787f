//! clauded itself: its unit, its socket and health, its TCP port.

use super::{Check, Host, ok, problem, warning};
use crate::ctl::program::{SERVICE_PATH, ask, find};
use crate::proto::api::Health;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

pub(super) async fn daemon(host: &Host<'_>) -> Vec<Check> {
    const SUBJECT: &str = "API";
    let mut checks = unit(host).await;
    let answer = host.client.read::<Health>("/api/v1/health").await;
    checks.push(match answer {
        Ok(health) if health.status == "ok" => ok(SUBJECT, format!("clauded {} answers at {} ({})", health.version, host.client.place(), health.supervisor)),
        Ok(health) => {
            problem(SUBJECT, format!("clauded {} is {}: {}", health.version, health.status, health.problems.join("; ")), "see: journalctl -u clauded")
        }
        Err(failure) => {
            let text = failure.to_string();
            let (found, advice) = text.split_once("; ").unwrap_or((&text, ""));
            problem(SUBJECT, found, advice)
        }
    });
    checks
}

async fn unit(host: &Host<'_>) -> Vec<Check> {
    const SUBJECT: &str = "clauded.service";
    let Some(systemctl) = find("systemctl", SERVICE_PATH).filter(|_| host.booted) else { return Vec::new() };
    let mut command = Command::new(systemctl);
    command.args(host.user.then_some("--user")).args(["is-active", "clauded.service"]);
    let start = if host.user { "systemctl --user enable --now clauded" } else { "sudo systemctl enable --now clauded" };
    vec![match ask(command, Duration::from_secs(5)).await {
        Ok(answer) if answer.ok => ok(SUBJECT, "active"),
        Ok(answer) if answer.text.trim().is_empty() => problem(SUBJECT, answer.complaint, format!("start it: {start}")),
        Ok(answer) => problem(SUBJECT, answer.text.trim(), format!("start it: {start}, and if it fails see: journalctl -u clauded")),
        Err(error) => problem(SUBJECT, error, "look at: systemctl status clauded"),
    }]
}

pub(super) async fn port(host: &Host<'_>) -> Option<Check> {
    Some(listening(host.config.as_ref()?.api.listen?).await)
}

async fn listening(address: SocketAddr) -> Check {
    const SUBJECT: &str = "TCP port";
    match TcpListener::bind(address) {
        Ok(_) => ok(SUBJECT, format!("{address} is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && ours(address).await => ok(SUBJECT, format!("clauded listens on {address}")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => problem(
            SUBJECT,
            format!("another program listens on {address}"),
            format!("see which with: sudo ss -ltnp 'sport = :{}', or set [api] listen to another port or \"off\"", address.port()),
        ),
        Err(error) => warning(SUBJECT, format!("cannot listen on {address}: {error}"), "set [api] listen to an address of this host or \"off\""),
    }
}

/// Whether clauded answers there: with its health, or with the problem document of a missing token.
async fn ours(address: SocketAddr) -> bool {
    let exchange = async {
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        stream.write_all(format!("GET /api/v1/health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(64 << 10).read_to_end(&mut answer).await?;
        io::Result::Ok(String::from_utf8_lossy(&answer).to_ascii_lowercase())
    };
    let answer = tokio::time::timeout(Duration::from_secs(3), exchange).await;
    answer.is_ok_and(|a| a.is_ok_and(|text| text.contains("application/problem+json") || text.contains("\"supervisor\"")))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    /// What is said of a port where somebody gives that answer.
    async fn beside(answer: &'static str) -> (Verdict, String) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let other = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("asked");
            // The question is read to its end: unread bytes would turn the close into a reset.
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                stream.read_buf(&mut asked).await.expect("read");
            }
            stream.write_all(answer.as_bytes()).await.expect("answered");
        });
        let check = listening(address).await;
        other.await.expect("asked once");
        (check.verdict, check.found.replace(&address.to_string(), "ADDRESS"))
    }

    #[tokio::test]
    async fn a_port_is_free_or_ours_or_somebody_elses() {
        let ours = (Verdict::Ok, "clauded listens on ADDRESS".to_owned());
        assert_eq!(beside("HTTP/1.1 200 OK\r\n\r\n{\"status\":\"ok\",\"supervisor\":\"systemd\"}").await, ours);
        assert_eq!(beside("HTTP/1.1 401 Unauthorized\r\nContent-Type: application/problem+json\r\n\r\n{}").await, ours);
        let other = (Verdict::Problem, "another program listens on ADDRESS".to_owned());
        assert_eq!(beside("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>").await, other);
        assert_eq!(beside("SSH-2.0-OpenSSH_9.2\r\n").await, other);

        let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
        let check = listening(free).await;
        assert_eq!((check.verdict, check.found), (Verdict::Ok, format!("{free} is free")));
        // Of the addresses for documentation (RFC 5737): no host has it.
        let check = listening("192.0.2.1:8888".parse().expect("an address")).await;
        assert!(check.verdict == Verdict::Warning && check.advice.contains("an address of this host"), "{}", check.found);
    }
}
