//! The counters and histograms that the daemon feeds as things happen.

use super::bounded::Bounded;
use super::locks::LockCounters;
use crate::core::attempt::{Ended, Reason, Report};
use crate::core::ids::InstanceName;
use crate::core::task::TaskType;
use prometheus::core::Collector;
use prometheus::{CounterVec, Histogram, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};
use std::time::Duration;

/// Instances that keep their name as a label: ten times the largest fleet that is aimed at.
const INSTANCES_MAX: usize = 1000;
/// Task types that keep their name.
const TYPES_MAX: usize = 20;
/// Models that keep their name.
const MODELS_MAX: usize = 30;
/// Results of a unit that keep their name; systemd has eleven.
const RESULTS_MAX: usize = 16;

/// The daemon's counters. Every label is bounded, and no task number is ever one.
pub struct Fed {
    restarts: IntCounterVec,
    finished: IntCounterVec,
    duration: HistogramVec,
    wait: HistogramVec,
    cpu: HistogramVec,
    memory_peak: HistogramVec,
    tokens: IntCounterVec,
    cost: CounterVec,
    turns: IntCounterVec,
    tool_calls: IntCounterVec,
    requests: IntCounterVec,
    links: IntCounterVec,
    dispatch: Histogram,
    commit: Histogram,
    locks: LockCounters,
    instances: Bounded,
    types: Bounded,
    models: Bounded,
    results: Bounded,
}

pub(super) fn register<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> prometheus::Result<C> {
    let collector = made?;
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

impl Fed {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str, labels: &[&str]| register(registry, IntCounterVec::new(Opts::new(name, help), labels));
        let options = |name: &str, help: &str, buckets: &[f64]| HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let by_type = |name: &str, help: &str, buckets: &[f64]| register(registry, HistogramVec::new(options(name, help, buckets), &["type"]));
        let plain = |name: &str, help: &str, buckets: &[f64]| register(registry, Histogram::with_opts(options(name, help, buckets)));
        Ok(Self {
            restarts: counter("clauded_instance_restarts_total", "Automatic restarts by what ended the instance (systemd's Result).", &["instance", "result"])?,
            finished: counter("clauded_tasks_finished_total", "Attempts at tasks that ended.", &["instance", "type", "outcome", "reason"])?,
            duration: by_type(
                "clauded_task_duration_seconds",
                "From the agent's start to the end of its last process, one attempt.",
                &[1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0, 14_400.0, 28_800.0],
            )?,
            wait: by_type(
                "clauded_task_wait_seconds",
                "From a task's arrival to the start of its first attempt's agent.",
                &[0.01, 0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0],
            )?,
            cpu: by_type(
                "clauded_task_cpu_seconds",
                "CPU time of one attempt, from its cgroup.",
                &[0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0],
            )?,
            memory_peak: by_type(
                "clauded_task_memory_peak_bytes",
                "Highest memory use of one attempt, from its cgroup.",
                &prometheus::exponential_buckets(f64::from(64 << 20), 2.0, 10)?,
            )?,
            tokens: counter("clauded_tokens_total", "Tokens as the agents report them.", &["instance", "model", "kind"])?,
            cost: register(registry, CounterVec::new(Opts::new("clauded_cost_usd_total", "Cost in US dollars as the agents report it."), &["instance"]))?,
            turns: counter("clauded_turns_total", "Model turns.", &["instance"])?,
            tool_calls: counter("clauded_tool_calls_total", "Tool calls of the agents.", &["instance"])?,
            requests: counter("clauded_api_requests_total", "Requests to the API that were answered, by route template.", &["route", "method", "code"])?,
            links: counter("clauded_link_connections_total", "Connections of runners, by whether they were taken.", &["result"])?,
            dispatch: plain(
                "clauded_dispatch_latency_seconds",
                "From when a task can run and an instance is idle to the runner's word that the agent has started.",
                &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5],
            )?,
            commit: plain(
                "clauded_store_commit_seconds",
                "One transaction of the store, from its begin until it is on disk.",
                &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0],
            )?,
            locks: LockCounters::register(registry)?,
            instances: Bounded::new(INSTANCES_MAX),
            types: Bounded::new(TYPES_MAX),
            models: Bounded::new(MODELS_MAX),
            results: Bounded::new(RESULTS_MAX),
        })
    }

    /// An attempt has ended.
    pub fn task_ended(&self, instance: &InstanceName, kind: &TaskType, ended: &Ended) {
        let reason = ended.reason().map_or("", Reason::name);
        self.finished.with_label_values(&[self.instances.admit(instance.as_str()), self.types.admit(kind.as_str()), ended.name(), reason]).inc();
    }

    /// Its runner has told what an attempt used; `waited` is from its task's arrival to the agent's start.
    pub fn task_used(&self, instance: &InstanceName, kind: &TaskType, report: &Report, waited: Option<Duration>) {
        let (instance, kind) = (self.instances.admit(instance.as_str()), self.types.admit(kind.as_str()));
        self.turns.with_label_values(&[instance]).inc_by(report.agent.turns);
        self.tool_calls.with_label_values(&[instance]).inc_by(report.agent.tool_calls);
        self.cost.with_label_values(&[instance]).inc_by(report.agent.cost.dollars());
        for (model, tokens) in &report.agent.tokens {
            let model = self.models.admit(model);
            for (name, count) in
                [("input", tokens.input), ("output", tokens.output), ("cache_read", tokens.cache_read), ("cache_creation", tokens.cache_creation)]
            {
                self.tokens.with_label_values(&[instance, model, name]).inc_by(count);
            }
        }
        if report.ended.reason() == Some(Reason::Spawn) {
            return; // Nothing ran: zeros would only move the quantiles.
        }
        let ran = report.finished.duration_since(report.started).as_secs_f64().max(0.0);
        self.duration.with_label_values(&[kind]).observe(ran);
        if let Some(waited) = waited {
            self.wait.with_label_values(&[kind]).observe(waited.as_secs_f64());
        }
        let used = &report.kernel;
        if used.cpu_user_usec.is_some() || used.cpu_system_usec.is_some() {
            let usec = used.cpu_user_usec.unwrap_or(0).saturating_add(used.cpu_system_usec.unwrap_or(0));
            self.cpu.with_label_values(&[kind]).observe(Duration::from_micros(usec).as_secs_f64());
        }
        if let Some(peak) = used.memory_peak {
            #[expect(clippy::cast_precision_loss, reason = "a bucket's width is far above the loss")]
            self.memory_peak.with_label_values(&[kind]).observe(peak as f64);
        }
    }

    /// An instance was restarted automatically; `result` is systemd's `Result`.
    pub fn restart(&self, instance: &InstanceName, result: &str) {
        self.restarts.with_label_values(&[self.instances.admit(instance.as_str()), self.results.admit(result)]).inc();
    }

    /// A request was answered. The route is its template, which bounds the label.
    pub fn request(&self, route: &str, method: &str, status: u16) {
        self.requests.with_label_values(&[route, method, &status.to_string()]).inc();
    }

    /// A runner has connected and was taken, or refused.
    pub fn link(&self, taken: bool) {
        self.links.with_label_values(&[if taken { "accepted" } else { "refused" }]).inc();
    }

    /// From when a task can run and an instance is idle to the runner's word that the agent has started.
    pub fn dispatch_latency(&self, took: Duration) {
        self.dispatch.observe(took.as_secs_f64());
    }

    /// A request for a lock has waited so long, and was granted or not.
    pub fn lock_waited(&self, time: Duration, granted: bool) {
        self.locks.waited(time, granted);
    }

    /// A request for a lock was refused; the cause is one of few words.
    pub fn lock_refused(&self, cause: &str) {
        self.locks.refused(cause);
    }

    /// One transaction of the store, from its begin until it is on disk.
    pub fn store_commit(&self, took: Duration) {
        self.commit.observe(took.as_secs_f64());
    }
}
