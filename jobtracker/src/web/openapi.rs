//! The description of the API, made from its types. It is kept in the repository, so that a change of it is seen.

use super::{routes::paths, stream};
use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Quorate",
        description = "What a job-tracker replica shows of itself, the cluster and its jobs. One replica can lie: believe \
                       what f + 1 of them say alike.",
        license(name = "Apache-2.0")
    ),
    paths(
        paths::cluster,
        paths::standing,
        paths::agreement,
        paths::jobs,
        paths::job,
        paths::tasks,
        paths::task,
        paths::difference,
        paths::tracker,
        paths::files,
        paths::storage,
        stream::events
    ),
    components(schemas(stream::Hello, stream::TaskChanges, stream::Reset))
)]
struct Description;

/// The description, in the form of OpenAPI 3.
pub(crate) fn document() -> utoipa::openapi::OpenApi {
    Description::openapi()
}

#[cfg(test)]
mod tests {
    use std::{env, fs, path::Path};

    /// `QUORATE_SNAPSHOTS=write cargo test openapi` writes it anew.
    #[test]
    fn the_description_is_the_one_in_the_repository() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../api/docs/openapi.json");
        let now = super::document().to_pretty_json().expect("JSON") + "\n";
        if env::var_os("QUORATE_SNAPSHOTS").is_some() {
            fs::write(&path, &now).expect("written");
        }
        let kept = fs::read_to_string(&path).expect("the description");
        assert!(
            now == kept,
            "the API's description changed: QUORATE_SNAPSHOTS=write cargo test openapi writes it anew"
        );
    }
}
