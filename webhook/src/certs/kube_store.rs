//! [`Store`] on a Kubernetes API server.
//!
//! The `caBundle` goes in by server-side apply of nothing but `webhooks[].name` and
//! `clientConfig.caBundle`: the list is keyed by `name`, so our field manager owns just these fields,
//! and neither Helm, Argo CD nor Flux see drift in theirs. It is forced: whoever else wrote into the
//! field, it has to hold our authorities.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::core::v1::Secret;
use kube::Resource;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject, ObjectMeta, PartialObjectMeta};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::{Value, json};
use tokio::sync::Notify;
use zeroize::Zeroizing;

use super::Material;
use super::store::{
    Announced, Announcement, Audience, Content, Store, StoreError, Stored, Written,
};
use crate::owner;

/// Name of our fields' owner.
const FIELD_MANAGER: &str = "keeper-injector-certificates";
/// Says that the Secret is ours to overwrite.
const LABEL: (&str, &str) = ("keeper.security/certificates", "auto");
/// A hanging API server is an error too.
const DEADLINE: Duration = Duration::from_secs(15);

const CA_CRT: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const TLS_CRT: &str = "tls.crt";
const TLS_KEY: &str = "tls.key";

/// One Secret, and the webhook configurations.
#[derive(Clone)]
pub(crate) struct KubeStore {
    secrets: Api<Secret>,
    metadata: Api<PartialObjectMeta<Secret>>,
    mutating: Configuration,
    validating: Option<Configuration>,
    secret: String,
    namespace: String,
}

/// A webhook configuration. Both kinds have the same form where it matters.
#[derive(Clone)]
struct Configuration {
    api: Api<DynamicObject>,
    kind: &'static str,
    name: String,
}

impl KubeStore {
    pub(crate) fn new(
        client: kube::Client,
        namespace: &str,
        secret: &str,
        mutating: &str,
        validating: Option<&str>,
    ) -> Self {
        Self {
            secrets: Api::namespaced(client.clone(), namespace),
            metadata: Api::namespaced(client.clone(), namespace),
            mutating: Configuration::new::<MutatingWebhookConfiguration>(
                client.clone(),
                "MutatingWebhookConfiguration",
                mutating,
            ),
            validating: validating.map(|name| {
                Configuration::new::<ValidatingWebhookConfiguration>(
                    client,
                    "ValidatingWebhookConfiguration",
                    name,
                )
            }),
            secret: secret.to_owned(),
            namespace: namespace.to_owned(),
        }
    }

    /// Notifies `changed` whenever something happens to the Secret or to a webhook configuration. Runs for ever; a lost
    /// watch is taken up again with a growing pause.
    pub(crate) async fn watch(self, client: kube::Client, changed: Arc<Notify>) {
        let validating = async {
            if let Some(Configuration { name, .. }) = &self.validating {
                watch(
                    metadata::<ValidatingWebhookConfiguration>(&client),
                    name,
                    &changed,
                )
                .await;
            }
        };
        let mutating = metadata::<MutatingWebhookConfiguration>(&client);
        tokio::join!(
            watch(self.metadata, &self.secret, &changed),
            watch(mutating, &self.mutating.name, &changed),
            validating,
        );
    }

    fn configuration(&self, audience: Audience) -> Option<&Configuration> {
        match audience {
            Audience::Admission => Some(&self.mutating),
            Audience::Warnings => self.validating.as_ref(),
        }
    }

    fn object(&self, material: &Material, version: Option<&str>) -> Secret {
        let part = |name: &str, text: &str| (name.to_owned(), ByteString(text.into()));
        Secret {
            metadata: ObjectMeta {
                name: Some(self.secret.clone()),
                labels: Some(BTreeMap::from([(LABEL.0.to_owned(), LABEL.1.to_owned())])),
                resource_version: version.map(str::to_owned),
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([
                part(CA_CRT, &material.ca_crt),
                part(CA_KEY, &material.ca_key),
                part(TLS_CRT, &material.tls_crt),
                part(TLS_KEY, &material.tls_key),
            ])),
            ..Secret::default()
        }
    }
}

impl Store for KubeStore {
    async fn read(&self) -> Result<Option<Stored>, StoreError> {
        let found = call(
            "read the Secret",
            &self.secret,
            self.secrets.get_opt(&self.secret),
        )
        .await?;
        Ok(found.map(|secret| Stored {
            version: secret.metadata.resource_version.clone().unwrap_or_default(),
            content: content(secret),
        }))
    }

    async fn create(&self, new: &Material) -> Result<Written, StoreError> {
        let mut object = Secret {
            type_: Some("kubernetes.io/tls".into()),
            ..self.object(new, None)
        };
        let client = self.secrets.clone().into_client();
        object.metadata.owner_references = owner::service_account(client, &self.namespace).await;
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.into()),
            dry_run: false,
        };
        written(
            call(
                "create the Secret",
                &self.secret,
                self.secrets.create(&params, &object),
            )
            .await,
        )
    }

    async fn replace(&self, version: &str, new: &Material) -> Result<Written, StoreError> {
        // A merge patch keeps the type and whatever labels others set; the version is the condition.
        let patch = Patch::Merge(self.object(new, Some(version)));
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PatchParams::default()
        };
        let patched = self.secrets.patch(&self.secret, &params, &patch);
        written(call("write the Secret", &self.secret, patched).await)
    }

    async fn announced(&self, audience: Audience) -> Result<Option<Announced>, StoreError> {
        match self.configuration(audience) {
            Some(configuration) => configuration.read().await.map(Some),
            None => Ok(None),
        }
    }

    async fn announce(
        &self,
        audience: Audience,
        seen: &Announced,
        ca_crt: &str,
    ) -> Result<Written, StoreError> {
        match self.configuration(audience) {
            Some(configuration) => configuration.write(seen, ca_crt).await,
            None => Ok(Written::Conflict),
        }
    }
}

impl Configuration {
    fn new<K: Resource<DynamicType = ()>>(
        client: kube::Client,
        kind: &'static str,
        name: &str,
    ) -> Self {
        Self {
            api: Api::all_with(client, &ApiResource::erase::<K>(&())),
            kind,
            name: name.to_owned(),
        }
    }

    async fn read(&self) -> Result<Announced, StoreError> {
        let Self { api, kind, name } = self;
        let missing = || StoreError::NoConfiguration {
            kind,
            name: name.clone(),
        };
        let found = call(&format!("read the {kind}"), name, api.get_opt(name)).await?;
        let found = found.ok_or_else(missing)?;
        let webhooks: Vec<_> = found
            .data
            .get("webhooks")
            .and_then(Value::as_array)
            .ok_or_else(missing)?
            .iter()
            .map(announcement)
            .collect();
        if webhooks.is_empty() {
            return Err(missing());
        }
        Ok(Announced {
            version: found.metadata.resource_version.unwrap_or_default(),
            webhooks,
        })
    }

    async fn write(&self, seen: &Announced, ca_crt: &str) -> Result<Written, StoreError> {
        let Self { api, kind, name } = self;
        let bundle = STANDARD.encode(ca_crt);
        let webhooks: Vec<_> = seen
            .webhooks
            .iter()
            .map(|hook| json!({"name": hook.name, "clientConfig": {"caBundle": bundle}}))
            .collect();
        // Forced against other owners of the field, but not against a change since it was read: the version is the condition.
        let patch = Patch::Apply(json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": name, "resourceVersion": seen.version},
            "webhooks": webhooks,
        }));
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let patched = api.patch(name, &params, &patch);
        written(call(&format!("patch the {kind}"), name, patched).await)
    }
}

fn announcement(webhook: &Value) -> Announcement {
    let text = |pointer| webhook.pointer(pointer).and_then(Value::as_str);
    Announcement {
        name: text("/name").unwrap_or_default().to_owned(),
        bundle: text("/clientConfig/caBundle")
            .and_then(|text| STANDARD.decode(text).ok())
            .unwrap_or_default(),
    }
}

fn metadata<K: Resource<DynamicType = ()>>(client: &kube::Client) -> Api<PartialObjectMeta<K>> {
    Api::all(client.clone())
}

async fn watch<K>(api: Api<PartialObjectMeta<K>>, name: &str, changed: &Notify)
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + 'static,
{
    let only_ours = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let events = watcher(api, only_ours).default_backoff();
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(_) => changed.notify_one(),
            Err(error) => tracing::warn!(%error, name, "the watch on the certificates broke"),
        }
    }
}

/// One call to the API server, of a bounded time.
async fn call<T>(
    action: &str,
    name: &str,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, StoreError> {
    let action = format!("cannot {action} {name:?}");
    match tokio::time::timeout(DEADLINE, call).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(source)) => Err(StoreError::Api {
            action,
            source: Box::new(source),
        }),
        Err(_) => Err(StoreError::Deadline { action }),
    }
}

fn written<T>(result: Result<T, StoreError>) -> Result<Written, StoreError> {
    match result {
        Ok(_) => Ok(Written::Yes),
        Err(StoreError::Api { source, .. })
            // 409 is "exists already" and "changed meanwhile"; 404 on a write: deleted meanwhile.
            if matches!(&*source, kube::Error::Api(status) if matches!(status.code, 404 | 409)) =>
        {
            Ok(Written::Conflict)
        }
        Err(error) => Err(error),
    }
}

fn content(secret: Secret) -> Content {
    let data = secret.data.unwrap_or_default();
    let ours = secret
        .metadata
        .labels
        .is_some_and(|labels| labels.get(LABEL.0).is_some_and(|value| value == LABEL.1));
    if !ours && !data.is_empty() {
        return Content::Foreign;
    }
    let part = |name: &str| {
        data.get(name)
            .and_then(|bytes| String::from_utf8(bytes.0.clone()).ok())
    };
    match (part(CA_CRT), part(CA_KEY), part(TLS_CRT), part(TLS_KEY)) {
        (Some(ca_crt), Some(ca_key), Some(tls_crt), Some(tls_key)) => Content::Material(Material {
            ca_crt,
            ca_key: Zeroizing::new(ca_key),
            tls_crt,
            tls_key: Zeroizing::new(tls_key),
        }),
        _ => Content::Incomplete,
    }
}
