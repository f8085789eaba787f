//! The calls to systemd, at most 64 in flight: a message bus refuses more than 128 unanswered calls of one connection.

use super::Bus;
use super::properties::{Properties, observation};
use crate::core::ids::InstanceName;
use crate::core::instance::Observation;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use zbus::OwnedObjectPath;
use zbus::proxy::CacheProperties;
use zbus::zvariant::OwnedVariant;
use zbus_systemd::systemd1::ManagerProxy;

/// systemd's name on the bus.
pub(super) const SYSTEMD: &str = "org.freedesktop.systemd1";

/// Unanswered calls at a time.
const IN_FLIGHT: usize = 64;

/// Longer than any call takes: `Reload` answers when all is read, which took 2 s on the slowest machine measured.
const TIMEOUT: Duration = Duration::from_secs(60);

/// One connection to systemd.
#[derive(Clone)]
pub(super) struct Systemd {
    pub(super) connection: zbus::Connection,
    pub(super) manager: ManagerProxy<'static>,
    in_flight: Arc<Semaphore>,
}

impl Systemd {
    pub(super) async fn connect(bus: Bus) -> zbus::Result<Self> {
        let builder = match bus {
            Bus::System => zbus::connection::Builder::system(),
            Bus::Session => zbus::connection::Builder::session(),
        };
        let connection = builder.method_timeout(TIMEOUT).build().await?;
        // Without a cache: a cache costs a match rule for each proxy, and the properties come through one rule for all units.
        let manager = ManagerProxy::builder(&connection).cache_properties(CacheProperties::No).build().await?;
        Ok(Self { connection, manager, in_flight: Arc::new(Semaphore::new(IN_FLIGHT)) })
    }

    /// Makes a call when there is room for it.
    pub(super) async fn call<T>(&self, call: impl Future<Output = zbus::Result<T>>) -> zbus::Result<T> {
        // The semaphore is never closed; if it were, the call would only be early.
        let _room = self.in_flight.acquire().await;
        call.await
    }

    /// Asks systemd to send signals. It may remember us from before it executed itself anew.
    pub(super) async fn subscribe(&self) -> zbus::Result<()> {
        match self.call(self.manager.subscribe()).await {
            Err(zbus::Error::MethodError(name, ..)) if name.as_str() == "org.freedesktop.systemd1.AlreadySubscribed" => Ok(()),
            done => done,
        }
    }

    /// The instances whose services are loaded.
    pub(super) async fn list(&self) -> zbus::Result<Vec<InstanceName>> {
        let listed = self.call(self.manager.list_units_by_patterns(Vec::new(), vec!["claude-code@*.service".to_owned()])).await?;
        Ok(listed.iter().filter_map(|unit| InstanceName::from_unit(&unit.0)).collect())
    }

    /// The properties of a unit; `None` if it is not loaded, which this does not change.
    pub(super) async fn unit(&self, unit: &str) -> zbus::Result<Option<Properties>> {
        // Not GetAll on the path that the name makes: that loads the unit, which is a signal, which would be answered with
        // another look, for ever.
        match self.call(self.manager.get_unit(unit.to_owned())).await {
            Ok(path) => self.properties(path).await.map(Some),
            Err(zbus::Error::MethodError(name, ..)) if name.as_str() == "org.freedesktop.systemd1.NoSuchUnit" => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The properties of a unit, which is loaded for it.
    pub(super) async fn loaded(&self, unit: &str) -> zbus::Result<Properties> {
        let path = self.call(self.manager.load_unit(unit.to_owned())).await?;
        self.properties(path).await
    }

    async fn properties(&self, path: OwnedObjectPath) -> zbus::Result<Properties> {
        // The empty interface is all of them, in systemd's implementation; zbus's own GetAll takes none that is empty.
        let reply = self.call(self.connection.call_method(Some(SYSTEMD), path, Some("org.freedesktop.DBus.Properties"), "GetAll", &"")).await?;
        reply.body().deserialize().map(Properties)
    }

    /// One look at an instance; `None` if its service is not loaded.
    pub(super) async fn look(&self, name: &InstanceName) -> zbus::Result<Option<Observation>> {
        let Some(service) = self.unit(&name.unit()).await?.filter(|service| !service.is_void()) else { return Ok(None) };
        let slice = self.unit(&name.slice()).await?.unwrap_or_default();
        Ok(Some(observation(name.clone(), &service, &slice)))
    }

    /// Sets properties of a unit until the next boot.
    pub(super) async fn set(&self, unit: String, settings: &[(&'static str, u64)]) -> zbus::Result<()> {
        let properties = settings.iter().map(|(name, value)| ((*name).to_owned(), OwnedVariant::from(*value))).collect();
        self.call(self.manager.set_unit_properties(unit, true, properties)).await
    }
}

/// Whether a call failed because systemd has left the bus for a moment, as it does when it executes itself anew.
pub(super) fn is_away(error: &zbus::Error) -> bool {
    use zbus::fdo::Error;
    matches!(error, zbus::Error::FDO(error) if matches!(**error, Error::ServiceUnknown(_) | Error::NameHasNoOwner(_) | Error::NoReply(_)))
}
