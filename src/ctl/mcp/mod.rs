//! `claudectl mcp`: the API's verbs as tools of an MCP server on standard input and output, for agents. Whoever started it is who
//! acts: the kernel says so to clauded at every call, and nothing here could say otherwise.

mod work;

use super::client::Client;
use super::failure::{Failure, Outcome};
use crate::proto::messages::{NewBroadcast, NewHelp, NewMessage};
use hyper::Method;
use hyper::body::Bytes;
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{CallToolResult, ContentBlock, Implementation, ServerCapabilities, ServerConfig};
use rmcp::schemars::JsonSchema;
use rmcp::{ServerHandler, ServiceExt, tool, tool_handler, tool_router};
use serde::Deserialize;

/// What the model is told of all the tools.
const INSTRUCTIONS: &str = "You are one of several agents on this host, run by clauded. With these tools you see your instance's tasks, lock files that you \
    change, take on other tasks of the queue, write to the other agents, and ask one that is free for help. Messages to you come by themselves, between two of your steps. Write only what others need; \
    the number of messages is bounded.";

/// The server.
#[derive(Debug)]
struct Tools {
    client: Client,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct ListTasks {
    /// Only in this state: pending, assigned, running, verifying, publishing, claimed, succeeded, failed or cancelled.
    state: Option<String>,
    /// At most this many, the newest first; 20 if absent.
    limit: Option<u32>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct ShowTask {
    /// The task's number.
    id: i64,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct SendMessage {
    /// The name of the instance, or of a team.
    to: String,
    /// What to say.
    text: String,
    /// The number of the message that this one answers.
    reply_to: Option<i64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Broadcast {
    /// What to say.
    text: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct ShowMessage {
    /// The message's number.
    id: i64,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Inbox {
    /// At most this many, the newest first; 20 if absent.
    limit: Option<u32>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct AskForHelp {
    /// The question, with all that is needed to answer it: the other agent does not see your conversation.
    question: String,
    /// Only to one with this specialty, such as backend.
    specialty: Option<String>,
}

impl Tools {
    /// All of them.
    fn all() -> ToolRouter<Self> {
        Self::tool_router() + Self::work_tools()
    }
}

#[tool_router]
impl Tools {
    #[tool(description = "List the tasks of your own instance, the newest first.")]
    async fn list_tasks(&self, Parameters(ListTasks { state, limit }): Parameters<ListTasks>) -> CallToolResult {
        // A state is one of a few words; anything else would be refused by clauded, and may not become a part of the query.
        let state = state.map(|s| s.chars().filter(char::is_ascii_alphabetic).collect::<String>()).map(|s| format!("&state={s}")).unwrap_or_default();
        answer(self.client.get(&format!("/api/v1/tasks?limit={}{state}", limit.unwrap_or(20))).await)
    }

    #[tool(description = "Show one task of your own instance: its prompt, its attempts and what came of them.")]
    async fn show_task(&self, Parameters(ShowTask { id }): Parameters<ShowTask>) -> CallToolResult {
        answer(self.client.get(&format!("/api/v1/tasks/{id}")).await)
    }

    #[tool(
        description = "Send a message to the agent of another instance, or to all of a team. A running agent reads it between two steps, an idle one gets it as a task."
    )]
    async fn send_message(&self, Parameters(SendMessage { to, text, reply_to }): Parameters<SendMessage>) -> CallToolResult {
        answer(self.client.send(Method::POST, "/api/v1/messages", &NewMessage { to, text, reply_to }).await)
    }

    #[tool(description = "Send a message to the agents of all other instances that run. For what everyone has to know.")]
    async fn broadcast(&self, Parameters(Broadcast { text }): Parameters<Broadcast>) -> CallToolResult {
        answer(self.client.send(Method::POST, "/api/v1/broadcast", &NewBroadcast { text }).await)
    }

    #[tool(description = "List the messages from and to your instance, the newest first. You need not look for new ones: they come by themselves.")]
    async fn inbox(&self, Parameters(Inbox { limit }): Parameters<Inbox>) -> CallToolResult {
        answer(self.client.get(&format!("/api/v1/messages?limit={}", limit.unwrap_or(20))).await)
    }

    #[tool(description = "Show one message in full, how far it has come and which messages answer it.")]
    async fn show_message(&self, Parameters(ShowMessage { id }): Parameters<ShowMessage>) -> CallToolResult {
        answer(self.client.get(&format!("/api/v1/messages/{id}")).await)
    }

    #[tool(description = "Ask an agent that is free. Go on with your work: the answer comes as a message.")]
    async fn ask_for_help(&self, Parameters(AskForHelp { question, specialty }): Parameters<AskForHelp>) -> CallToolResult {
        answer(self.client.send(Method::POST, "/api/v1/help", &NewHelp { text: question, specialty, timeout_seconds: None }).await)
    }

    #[tool(description = "List the instances of this host with what each is doing.")]
    async fn list_instances(&self) -> CallToolResult {
        answer(self.client.get("/api/v1/instances").await)
    }
}

#[tool_handler(router = Self::all())]
impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        let mut info = ServerConfig::new(ServerCapabilities::builder().enable_tools().build());
        info.server_info = Implementation::new("clauded", env!("CARGO_PKG_VERSION"));
        info.instructions = Some(INSTRUCTIONS.to_owned());
        info
    }
}

/// The API's answer as it came; a refusal is for the model to read, not an error of the protocol.
fn answer(given: Result<Bytes, Failure>) -> CallToolResult {
    match given {
        Ok(body) => CallToolResult::success(vec![ContentBlock::text(String::from_utf8_lossy(&body).trim().to_owned())]),
        Err(failure) => CallToolResult::error(vec![ContentBlock::text(failure.to_string())]),
    }
}

/// Serves until standard input ends.
pub(super) async fn run(client: Client) -> Result<Outcome, Failure> {
    let failed = |what: &str, error: &dyn std::fmt::Display| Failure::Failed(format!("{what}: {error}"));
    let server = Tools { client }.serve(rmcp::transport::stdio()).await.map_err(|e| failed("the MCP client does not begin as it should", &e))?;
    server.waiting().await.map_err(|e| failed("the MCP server broke off", &e))?;
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_tool_says_what_it_takes() {
        let tools = Tools::all().list_all();
        let names: Vec<_> = tools.iter().map(|tool| tool.name.as_ref()).collect();
        let messages = ["ask_for_help", "broadcast", "inbox", "list_instances", "list_tasks", "send_message", "show_message", "show_task"];
        let work = ["acquire_lock", "add_task", "claim_task", "complete_task", "list_locks", "release_lock", "release_task", "report_progress"];
        assert_eq!(names.iter().collect::<BTreeSet<_>>(), messages.iter().chain(&work).collect());
        for tool in &tools {
            assert!(tool.description.as_ref().is_some_and(|text| text.ends_with('.')), "{tool:?}");
            let schema = serde_json::Value::Object((*tool.input_schema).clone());
            for (name, field) in schema["properties"].as_object().into_iter().flatten() {
                assert!(field["description"].is_string(), "{}: {name}", tool.name);
            }
        }
    }
}
