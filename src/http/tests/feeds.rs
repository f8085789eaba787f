//! Live feeds and waits, and how they end.

use super::fake::Rig;
use crate::http::service::Role;
use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::Incoming;
use std::sync::Arc;

/// Reads the `id:` lines of a feed, and checks each against its `data:`.
struct Reader {
    body: Incoming,
    text: String,
}

impl Reader {
    async fn open(rig: &Rig, path: &str, last: Option<&str>) -> Self {
        let mut request = Request::get(path).header("host", "localhost");
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let answer = rig.open(request.body(String::new()).unwrap()).await;
        assert_eq!((answer.status().as_u16(), answer.headers()["content-type"].to_str().unwrap()), (200, "text/event-stream"));
        Self { body: answer.into_body(), text: String::new() }
    }

    async fn next(&mut self) -> Option<i64> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned());
                let id: i64 = field("id:").unwrap().parse().unwrap();
                let data: serde_json::Value = serde_json::from_str(&field("data:").unwrap()).unwrap();
                assert_eq!(data["id"], id);
                return Some(id);
            }
            let frame = self.body.frame().await?.unwrap();
            self.text.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
        }
    }

    async fn take(&mut self, count: usize) -> Vec<i64> {
        let mut ids = Vec::new();
        while ids.len() < count {
            ids.push(self.next().await.unwrap());
        }
        ids
    }
}

#[tokio::test]
async fn an_agent_is_told_of_its_own_instance_and_gets_full_pages() {
    let rig = Rig::new(Role::Agent("a".parse().unwrap())).await;
    for (at, instance) in [Some("a"), Some("b"), None, Some("b"), Some("a"), Some("b"), Some("a")].into_iter().enumerate() {
        rig.fake.publish("x");
        rig.fake.events.lock().unwrap()[at].instance = instance.map(ToOwned::to_owned);
    }
    for (limit, expected) in [(1, &[1][..]), (2, &[1, 5]), (3, &[1, 5, 7]), (100, &[1, 5, 7])] {
        let got = rig.unix("GET", &format!("/api/v1/events?limit={limit}"), None).await;
        let events: Vec<crate::proto::api::Event> = serde_json::from_str(&got.text).unwrap();
        assert_eq!(events.iter().map(|event| event.id).collect::<Vec<_>>(), expected, "{limit}");
    }
    let mut reader = Reader::open(&rig, "/api/v1/events/stream?after=1", None).await;
    assert_eq!(reader.take(2).await, [5, 7]);
}

#[tokio::test]
async fn a_feed_replays_and_goes_on_without_gap_or_duplicate() {
    let rig = Rig::new(Role::Operator).await;
    (0..3).for_each(|_| rig.fake.publish("before"));
    let mut reader = Reader::open(&rig, "/api/v1/events/stream?after=1", None).await;
    assert_eq!(reader.take(2).await, [2, 3]);
    rig.fake.publish("live");
    assert_eq!(reader.take(1).await, [4]);
    // The broadcast holds four: the reader lags, and still misses nothing.
    (0..500).for_each(|_| rig.fake.publish("burst"));
    assert_eq!(reader.take(500).await, (5..505).collect::<Vec<_>>());
}

#[tokio::test]
async fn events_that_are_published_while_a_feed_begins_come_once() {
    let rig = Arc::new(Rig::new(Role::Operator).await);
    let publisher = tokio::spawn({
        let fake = rig.fake.clone();
        async move {
            for _ in 0..1000 {
                fake.publish("x");
                tokio::task::yield_now().await;
            }
        }
    });
    for _ in 0..8 {
        let mut reader = Reader::open(&rig, "/api/v1/events/stream", None).await;
        assert_eq!(reader.take(100).await, (1..101).collect::<Vec<_>>());
    }
    publisher.await.unwrap();
    let mut reader = Reader::open(&rig, "/api/v1/events/stream?after=2", Some("990")).await;
    assert_eq!(reader.take(10).await, (991..1001).collect::<Vec<_>>(), "Last-Event-ID goes before the query");
}

#[tokio::test]
async fn a_wrong_last_event_id_and_too_many_feeds_are_refused() {
    let rig = Rig::new(Role::Agent("a".parse().unwrap())).await;
    let request = Request::get("/api/v1/events/stream").header("host", "localhost").header("Last-Event-ID", "x").body(String::new()).unwrap();
    assert_eq!(rig.unix_request(request).await.problem().code, "invalid-last-event-id");
    let mut open = Vec::new();
    for _ in 0..crate::http::READERS_STREAMS_MAX {
        open.push(Reader::open(&rig, "/api/v1/events/stream", None).await);
    }
    // Not refused, it would be a feed, and those have no end.
    let refused = async || tokio::time::timeout(std::time::Duration::from_secs(20), rig.unix("GET", "/api/v1/events/stream", None)).await.expect("refused");
    let reader = refused().await;
    assert_eq!((reader.status, reader.problem().code.as_str(), reader.header("retry-after")), (503, "too-many-streams", "1"));
    rig.calls_as(Role::Operator);
    for _ in 0..crate::http::STREAMS_MAX {
        open.push(Reader::open(&rig, "/api/v1/events/stream", None).await);
    }
    assert_eq!(refused().await.problem().code, "too-many-streams");
}

#[tokio::test]
async fn the_end_of_the_server_ends_feeds_and_waits_at_once() {
    let rig = Rig::new(Role::Operator).await;
    let mut reader = Reader::open(&rig, "/api/v1/events/stream", None).await;
    let waiting = Request::get("/api/v1/tasks/1/log?wait=true&offset=5").header("host", "localhost").body(String::new()).unwrap();
    let fake = rig.fake.clone();
    let ((), ()) = tokio::join!(
        async {
            let answer = rig.open(waiting).await;
            assert_eq!(answer.status(), 200);
            let chunk: serde_json::Value = serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap();
            assert_eq!((&chunk["text"], &chunk["next"]), (&"wait=true".into(), &5.into()));
        },
        async {
            fake.entered.notified().await;
            fake.go_on.notify_one();
        }
    );
    let began = std::time::Instant::now();
    rig.end().await;
    assert_eq!(reader.next().await, None);
    assert!(began.elapsed() < std::time::Duration::from_secs(4), "cut off, not ended");
}
