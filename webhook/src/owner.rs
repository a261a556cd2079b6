//! Who owns the objects that we make: our service account, so that they go with it when the chart is uninstalled.
//!
//! An owner is named by its UID. The API server tells whoever asks who they are, so that it takes no right on anything.

use std::time::Duration;

use k8s_openapi::api::authentication::v1::{SelfSubjectReview, UserInfo};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, PostParams};

/// What is to be made matters more than its end.
const DEADLINE: Duration = Duration::from_secs(2);

/// Our service account, as the owner of an object in its namespace. None where the API server doesn't tell: what is
/// made without it has to be deleted by hand.
pub(crate) async fn service_account(
    client: kube::Client,
    namespace: &str,
) -> Option<Vec<OwnerReference>> {
    let reviews: Api<SelfSubjectReview> = Api::all(client);
    let (params, question) = (PostParams::default(), SelfSubjectReview::default());
    let answer = tokio::time::timeout(DEADLINE, reviews.create(&params, &question)).await;
    match answer {
        Ok(Ok(review)) => Some(vec![reference(review.status?.user_info?, namespace)?]),
        Ok(Err(error)) => {
            tracing::debug!(%error, "who we are is unknown");
            None
        }
        Err(_) => None,
    }
}

fn reference(user: UserInfo, namespace: &str) -> Option<OwnerReference> {
    let account = user.username?;
    let (of, name) = account
        .strip_prefix("system:serviceaccount:")?
        .split_once(':')?;
    // An owner in another namespace is none: the object would go at once.
    (of == namespace).then_some(OwnerReference {
        api_version: "v1".to_owned(),
        kind: "ServiceAccount".to_owned(),
        name: name.to_owned(),
        uid: user.uid?,
        ..OwnerReference::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(username: &str, uid: Option<&str>) -> Option<(String, String)> {
        let user = UserInfo {
            username: Some(username.to_owned()),
            uid: uid.map(str::to_owned),
            ..UserInfo::default()
        };
        reference(user, "keeper-security").map(|owner| (owner.name, owner.uid))
    }

    #[test]
    fn a_service_account_of_the_namespace_is_an_owner() {
        let ours = "system:serviceaccount:keeper-security:keeper-injector";
        let expected = ("keeper-injector".to_owned(), "u-1".to_owned());
        assert_eq!(owner(ours, Some("u-1")), Some(expected));
        assert_eq!(owner(ours, None), None);
        for other in [
            "system:serviceaccount:elsewhere:keeper-injector",
            "kubernetes-admin",
            "",
        ] {
            assert_eq!(owner(other, Some("u-1")), None, "{other}");
        }
    }
}
