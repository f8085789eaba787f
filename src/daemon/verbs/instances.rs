//! The verbs on instances.

use super::{Verbs, refused};
use crate::config;
use crate::core::ids::InstanceName;
use crate::core::limits::{InvalidLimit, Limits, MemoryLimit};
use crate::daemon::{checkout, scrape, view};
use crate::http::service::{Answer, Caller, Instances, ServiceError};
use crate::platform::units::{Done, UnitError};
use crate::proto::api;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::str::FromStr;

/// How many of an instance's last events `claudectl status NAME` shows.
const HISTORY: u32 = 20;

impl Verbs {
    async fn verb(
        &self,
        caller: &Caller,
        name: &InstanceName,
        verb: &str,
        details: &Value,
        done: Result<Done, UnitError>,
    ) -> Result<api::Outcome, ServiceError> {
        let done = done?;
        tracing::info!(instance = %name, by = %caller.description, "{verb} {name} ({done:?}), asked by {}", caller.description);
        if done != Done::Unchanged {
            let row = caller.actor.did(format!("instance-{verb}"), Timestamp::now()).of_instance(Some(name)).with(details);
            self.note("instance-asked", Some(name), format!("{verb} by {}", caller.description), row).await?;
        }
        let message = if done == Done::Unchanged { "nothing to do".to_owned() } else { String::new() };
        Ok(api::Outcome { result: done.name().to_owned(), message })
    }

    pub(super) fn add_cgroup(&self, instance: &mut api::Instance, control_group: &str) -> Vec<api::Cap> {
        let Some(mount) = self.cgroups.as_deref().filter(|_| !control_group.is_empty()) else { return Vec::new() };
        let caps = view::caps(mount, control_group);
        view::add_usage(instance, &scrape::instance_group(mount, control_group), &caps);
        caps
    }
}

impl Instances for Verbs {
    fn instances(&self) -> Answer<'_, Vec<api::Instance>> {
        Box::pin(async {
            let found = self.look(|state| {
                let names = state.config.instances.keys().chain(state.fleet.iter().map(|seen| &seen.name));
                let names: std::collections::BTreeSet<_> = names.collect();
                let group = |name| state.fleet.get(name).map(|s| s.control_group.clone()).unwrap_or_default();
                names.into_iter().map(|name| (view::instance(state, name), group(name))).collect::<Vec<_>>()
            });
            let mut instances = Vec::new();
            for (mut instance, group) in found.await? {
                self.add_cgroup(&mut instance, &group);
                instances.push(instance);
            }
            Ok(instances)
        })
    }

    fn instance(&self, name: InstanceName) -> Answer<'_, api::InstanceDetail> {
        Box::pin(async move {
            let asked = name.clone();
            let found = self.look(move |state| {
                let seen = state.fleet.get(&asked);
                let known = seen.is_some() || state.config.instances.contains_key(&asked);
                let config = state.config.instance(&asked);
                let detail = api::InstanceDetail {
                    instance: view::instance(state, &asked),
                    id: checkout::id(&asked).to_string(),
                    repository: config.repository,
                    unit: asked.unit(),
                    directory: config.directory.display().to_string(),
                    profile: config.profile,
                    user: config.user,
                    invocation: seen.and_then(|s| s.invocation.as_ref()).map(ToString::to_string),
                    main_pid: seen.map(|s| s.main_pid).filter(|pid| *pid != 0),
                    ..api::InstanceDetail::default()
                };
                known.then(|| (detail, seen.map(|s| s.control_group.clone()).unwrap_or_default()))
            });
            let (mut detail, group) = found.await?.ok_or_else(|| {
                refused(404, "no-such-instance", format!("there is no instance {name}, neither running nor configured; start it with: claudectl start {name}"))
            })?;
            detail.caps = self.add_cgroup(&mut detail.instance, &group);
            detail.history = self.store.instance_history(&name, HISTORY).await?.into_iter().map(view::event).collect();
            Ok(detail)
        })
    }

    fn start(&self, caller: Caller, name: InstanceName) -> Answer<'_, api::Outcome> {
        Box::pin(async move { self.verb(&caller, &name, "start", &json!({}), self.units.start(&name).await).await })
    }

    fn stop(&self, caller: Caller, name: InstanceName) -> Answer<'_, api::Outcome> {
        Box::pin(async move { self.verb(&caller, &name, "stop", &json!({}), self.units.stop(&name).await).await })
    }

    fn restart(&self, caller: Caller, name: InstanceName) -> Answer<'_, api::Outcome> {
        Box::pin(async move { self.verb(&caller, &name, "restart", &json!({}), self.units.restart(&name).await).await })
    }

    fn set_limits(&self, caller: Caller, name: InstanceName, wanted: api::SetLimits) -> Answer<'_, api::Outcome> {
        Box::pin(async move {
            let limits = limits(&wanted)?;
            if limits.is_empty() {
                return Err(refused(400, "no-limits", "no limit is given; say for example memory=6G"));
            }
            if wanted.persist {
                let _alone = self.persisting.lock().await;
                // First what may be refused without a trace, then what takes effect.
                let persisted = config::persist_limits(&self.paths, &name, &limits)?;
                if persisted {
                    self.put_in_force(&caller).await?;
                }
            }
            self.verb(&caller, &name, "limit", &serde_json::to_value(&wanted).unwrap_or_default(), self.units.set_limits(&name, limits).await).await
        })
    }
}

/// The limits that a request names.
fn limits(wanted: &api::SetLimits) -> Result<Limits, ServiceError> {
    fn parsed<T: FromStr<Err = InvalidLimit>>(field: &str, text: Option<&String>) -> Result<Option<T>, ServiceError> {
        text.map(|t| t.parse()).transpose().map_err(|e: InvalidLimit| refused(422, "invalid-limit", format!("{field}: {e}")))
    }
    let limits = Limits {
        memory: parsed("memory", wanted.memory.as_ref())?,
        memory_high: parsed("memory_high", wanted.memory_high.as_ref())?,
        swap: wanted.swap.as_deref().map(MemoryLimit::from_swap).transpose().map_err(|e| refused(422, "invalid-limit", format!("swap: {e}")))?,
        cpu: parsed("cpu", wanted.cpu.as_ref())?,
        cpu_weight: parsed("cpu_weight", wanted.cpu_weight.as_ref())?,
        io_weight: parsed("io_weight", wanted.io_weight.as_ref())?,
        tasks: parsed("tasks", wanted.tasks.as_ref())?,
    };
    // A lower maximum must not stay under an old, higher threshold.
    Ok(limits.with_memory_high())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_limit_names_its_field() {
        let error = limits(&api::SetLimits { memory: Some("6 gigs".into()), ..api::SetLimits::default() }).expect_err("wrong");
        assert_eq!((error.status, error.code), (422, "invalid-limit"));
        assert!(error.detail.starts_with("memory: \"6 gigs\" is not an amount"), "{}", error.detail);
    }
}
