//! `claudectl send`, `broadcast`, `help` and `messages`.

use super::args;
use super::client::{Client, decode};
use super::failure::{Failure, Outcome};
use super::output::{Screen, Style};
use super::quantity::{age, clean, line};
use crate::proto::messages::{Message, NewBroadcast, NewHelp, NewMessage};
use clap::CommandFactory;
use hyper::Method;
use hyper::body::Bytes;
use jiff::Timestamp;
use std::io::Read;

/// `claudectl send`
pub(super) async fn send(client: &Client, screen: &Screen, args: &args::Send) -> Result<Outcome, Failure> {
    let new = NewMessage { to: args.to.clone(), text: text(&args.text)?, reply_to: args.reply_to };
    let body = client.send(Method::POST, "/api/v1/messages", &new).await?;
    sent(screen, &body)
}

/// `claudectl broadcast`
pub(super) async fn broadcast(client: &Client, screen: &Screen, args: &args::Broadcast) -> Result<Outcome, Failure> {
    let body = client.send(Method::POST, "/api/v1/broadcast", &NewBroadcast { text: text(&args.text)? }).await?;
    sent(screen, &body)
}

/// `claudectl help`: with nothing or the name of a command, what other programs' `help` does.
pub(super) async fn help(client: &Client, screen: &Screen, args: &args::Help) -> Result<Outcome, Failure> {
    let words: Vec<&str> = args.question.iter().map(String::as_str).collect();
    if let Some(page) = manual(&words) {
        return screen.print(&page).map(|()| Outcome::Done);
    }
    let new = NewHelp { text: text(&words.join(" "))?, specialty: args.specialty.clone(), timeout_seconds: args.timeout.map(|t| t.as_secs()) };
    let body = client.send(Method::POST, "/api/v1/help", &new).await?;
    let asked: Message = decode(&body)?;
    // To an agent the answer comes as a message, whether it waits here or not.
    if args.no_wait || asked.from.is_some() {
        let task = asked.task.map(|id| format!(" as task {id}")).unwrap_or_default();
        return if screen.data() { screen.body(&body) } else { screen.print(&format!("asked{task}; the answer comes as a message\n")) }.map(|()| Outcome::Done);
    }
    let progress = screen.progress();
    progress.say(&format!("message {}: waits for an answer", asked.id));
    let mut now = asked;
    while now.answers.is_empty() {
        now = decode(&client.whole(Method::GET, &format!("/api/v1/messages/{}?wait=true", now.id), None).await?)?;
    }
    drop(progress);
    let answer = now.answers.first().copied().unwrap_or_default();
    let body = client.get(&format!("/api/v1/messages/{answer}")).await?;
    let answer: Message = decode(&body)?;
    if screen.data() {
        screen.body(&body)?;
    } else {
        screen.print(&format!("{}\n", readable(&answer.text)))?;
    }
    // clauded itself speaks where nobody has answered.
    Ok(if answer.from.is_some() && !answer.text.starts_with("There is no answer: ") { Outcome::Done } else { Outcome::Negative })
}

/// The help text of all of it, or of a command.
fn manual(words: &[&str]) -> Option<String> {
    let mut command = args::Cli::command();
    command.build();
    let mut found = &mut command;
    for word in words {
        found = found.find_subcommand_mut(word)?;
    }
    Some(found.render_long_help().to_string())
}

/// `claudectl messages`
pub(super) async fn list(client: &Client, screen: &Screen, args: &args::Messages) -> Result<Outcome, Failure> {
    if let Some(id) = args.id {
        let body = client.get(&format!("/api/v1/messages/{id}")).await?;
        let shown = if screen.data() { screen.body(&body) } else { screen.print(&detail(screen.style(), &decode(&body)?, Timestamp::now())) };
        return shown.map(|()| Outcome::Done);
    }
    let instance = args.instance.as_ref().map(|name| format!("&instance={name}")).unwrap_or_default();
    let body = client.get(&format!("/api/v1/messages?limit={}{instance}", args.lines)).await?;
    let shown = if screen.data() { screen.body(&body) } else { screen.print(&table(screen.style(), &decode::<Vec<Message>>(&body)?, Timestamp::now())) };
    shown.map(|()| Outcome::Done)
}

/// The words of the command line, or standard input for `-`.
fn text(given: &str) -> Result<String, Failure> {
    if given != "-" {
        return Ok(given.to_owned());
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|e| Failure::Failed(format!("cannot read the text from standard input: {e}")))?;
    Ok(text)
}

fn sent(screen: &Screen, body: &Bytes) -> Result<Outcome, Failure> {
    if screen.data() {
        screen.body(body)?;
    } else {
        screen.print(&format!("{}\n", decode::<Message>(body)?.id))?;
    }
    Ok(Outcome::Done)
}

/// How far it has come, in a few words.
fn progress(message: &Message) -> String {
    let letters: Vec<String> = message
        .letters
        .iter()
        .map(|letter| match letter.task {
            Some(task) => format!("{} {} (task {task})", clean(&letter.to), clean(&letter.state)),
            None => format!("{} {}", clean(&letter.to), clean(&letter.state)),
        })
        .collect();
    match (message.task, letters.is_empty()) {
        (Some(task), true) => format!("asked in task {task}"),
        (_, true) => "kept".to_owned(),
        _ => letters.join(", "),
    }
}

fn table(style: Style, messages: &[Message], now: Timestamp) -> String {
    if messages.is_empty() {
        return "No messages. Send one with: claudectl send NAME 'TEXT'\n".to_owned();
    }
    let rows = messages.iter().map(|m| {
        let kind = m.reply_to.map_or_else(|| clean(&m.kind), |id| format!("{} to {id}", clean(&m.kind)));
        vec![m.id.to_string(), age(&m.at, now), kind, clean(&m.sender), clean(&m.to), progress(m), line(&m.text, 60)]
    });
    style.table(&["ID", "SENT", "KIND", "FROM", "TO", "STATE", "TEXT"], rows.collect())
}

fn detail(style: Style, message: &Message, now: Timestamp) -> String {
    let number = |id: Option<i64>| id.map(|id| id.to_string()).unwrap_or_default();
    let fields = style.fields(&[
        ("Message", message.id.to_string()),
        ("Kind", clean(&message.kind)),
        ("From", clean(&message.sender)),
        ("To", clean(&message.to)),
        ("Sent", format!("{} ({})", clean(&message.at), age(&message.at, now))),
        ("State", progress(message)),
        ("In answer to", number(message.reply_to)),
        ("Answered by", message.answers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
    ]);
    format!("{fields}\n{}\n", readable(&message.text))
}

/// A text that moves no cursor.
fn readable(text: &str) -> String {
    text.lines().map(clean).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::messages::Letter;

    fn message() -> Message {
        let letter = |to: &str, state: &str, task| Letter { to: to.into(), state: state.into(), task, since: String::new() };
        Message {
            id: 3,
            at: "2026-11-21T10:00:00Z".into(),
            kind: "message".into(),
            sender: "instance:b".into(),
            from: Some("b".into()),
            to: "team".into(),
            reply_to: Some(2),
            text: "one\ntwo\u{1b}[31m".into(),
            letters: vec![letter("team-a", "delivered", Some(7)), letter("team-b", "pending", None)],
            answers: vec![4, 5],
            ..Message::default()
        }
    }

    #[test]
    fn a_message_is_a_row_and_a_page() {
        let now = "2026-11-21T10:05:00Z".parse().expect("a time");
        assert_eq!(
            table(Style::default(), &[message()], now),
            "ID  SENT    KIND          FROM        TO    STATE                                      TEXT\n\
             3   5m ago  message to 2  instance:b  team  team-a delivered (task 7), team-b pending  one two [31m\n"
        );
        let page = detail(Style::default(), &message(), now);
        assert!(page.contains("Answered by: 4, 5\n") && page.ends_with("\n\none\ntwo [31m\n"), "{page:?}");
    }

    #[test]
    fn help_for_a_command_is_still_help() {
        assert!(manual(&[]).is_some_and(|page| page.contains("broadcast")));
        assert!(manual(&["task", "add"]).is_some_and(|page| page.contains("--instance")));
        assert_eq!(manual(&["why does the parser fail?"]), None);
    }
}
