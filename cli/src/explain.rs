//! What a user is told of an error of the client: its cause in plain words, and what to do about it.

use highwater_client::{ApiError, Error, Reason, TlsProblem};

use crate::failure::Failure;
use crate::near_names::near_names;

/// The failure to do `what` because of `error`.
pub(crate) fn explain(what: impl Into<String>, error: &Error) -> Failure {
    match error {
        Error::Connect { addresses, .. } => explain_connect(what, addresses, error),
        Error::Tls { addresses, problem } => explain_tls(what, addresses, problem),
        Error::Api(api)
        | Error::Partition { source: api, .. }
        | Error::Delivery { source: api, .. } => explain_api(what.into(), error, api),
        Error::DeliveryTimeout {
            last: Some(last), ..
        } => Failure::new(what, format!("{error}; the last attempt: {}", last.message)),
        _ => Failure::new(what, error),
    }
}

/// The failure to do `what` because no broker could be talked to at `addresses`.
pub(crate) fn explain_connect(what: impl Into<String>, addresses: &str, error: &Error) -> Failure {
    const NAME_ONE: &str =
        "name one that runs: --brokers HOST:PORT, or HIGHWATER_BROKERS in the environment";
    let problem = match error {
        Error::Connect { problem, .. } => without_error_number(problem),
        Error::Api(api) => &api.message,
        _ => return explain(what, error),
    };
    if is_not_a_broker(problem) {
        return Failure::new(
            what,
            format!("what answers at {addresses} is no Highwater broker"),
        )
        .remedy("brokers listen on port 7410 for clients, unless they are told otherwise")
        .remedy(NAME_ONE);
    }
    match error {
        Error::Connect { .. } => Failure::new(
            what,
            format!("no broker answers at {addresses} ({problem})"),
        )
        .remedy("start one: highwater dev")
        .remedy(format!("or {NAME_ONE}")),
        _ => explain(what, error),
    }
}

/// The failure to do `what` because of TLS with the broker at `addresses`.
fn explain_tls(what: impl Into<String>, addresses: &str, problem: &TlsProblem) -> Failure {
    let failure = Failure::new(
        what,
        format!("the broker at {addresses} cannot be talked to: {problem}"),
    );
    match problem {
        TlsProblem::Needed => failure
            .remedy("name the file of its authority: --tls-ca FILE, or HIGHWATER_TLS_CA in the environment")
            .remedy("or, where this machine trusts that anyway: --tls"),
        TlsProblem::NotSpoken => failure.remedy(
            "leave out --tls and --tls-ca, and HIGHWATER_TLS and HIGHWATER_TLS_CA in the environment",
        ),
        TlsProblem::Untrusted => failure.remedy("name the file of its authority: --tls-ca FILE"),
        TlsProblem::OtherHost(_) => {
            failure.remedy("name the broker by a host of its certificate: --brokers HOST:PORT")
        }
        TlsProblem::CertificateWanted | TlsProblem::CertificateRefused => {
            failure.remedy("show one that it takes: --tls-certificate FILE --tls-key FILE")
        }
        _ => failure,
    }
}

/// Whether the problem with a connection is one that only other kinds of servers give: they do not speak HTTP/2, or
/// they do and know nothing of gRPC.
fn is_not_a_broker(problem: &str) -> bool {
    [
        "frame with invalid size",
        "grpc-status header missing",
        "invalid HTTP version",
    ]
    .iter()
    .any(|sign| problem.contains(sign))
}

/// The words of the operating system without its number for them, which says nothing more.
pub(crate) fn without_error_number(problem: &str) -> &str {
    problem
        .rsplit_once(" (os error ")
        .map_or(problem, |(words, _)| words)
}

fn explain_api(what: String, error: &Error, api: &ApiError) -> Failure {
    let place = match error {
        Error::Partition {
            topic, partition, ..
        } => format!("{topic}/{partition}: "),
        _ => String::new(),
    };
    let failure = Failure::new(
        what,
        format!("{place}{} ({})", api.message, api.reason_name()),
    );
    let topic = match error {
        Error::Partition { topic, .. } => topic,
        _ => "TOPIC",
    };
    match remedy(api.reason, topic) {
        Some(remedy) => failure.remedy(remedy),
        None => failure,
    }
}

/// What helps where the broker's message cannot know what the user has at hand.
fn remedy(reason: Reason, topic: &str) -> Option<String> {
    Some(match reason {
        Reason::InvalidReplicationFactor => {
            "see how many brokers there are: highwater cluster brokers".into()
        }
        Reason::DiskFull => {
            "make room: highwater topic trim or highwater topic delete; see highwater cluster info"
                .into()
        }
        Reason::DataLoss | Reason::StorageError => {
            "see what is wrong: highwater cluster health".into()
        }
        Reason::OffsetOutOfRange => {
            format!("see which offsets there are: highwater topic describe {topic}")
        }
        _ => return None,
    })
}

/// The failure to do `what` because there is no topic `name` among those that are `known`.
pub(crate) fn unknown_topic<'a>(
    what: impl Into<String>,
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Failure {
    let failure = Failure::new(what, "there is no such topic");
    let near = near_names(name, known);
    let failure = if near.is_empty() {
        failure
    } else {
        failure.remedy(format!("did you mean {}?", near.join(" or ")))
    };
    if is_topic_name(name) {
        failure.remedy(format!("create it: highwater topic create {name}"))
    } else {
        failure.remedy("names consist of a-z, A-Z, 0-9, `.`, `_` and `-`")
    }
}

/// Whether a topic could have this name: no use to suggest otherwise to create it. The broker has the last word.
fn is_topic_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !name.is_empty() && name != "." && name != ".." && name.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_broker_the_user_is_told_how_to_start_one() {
        let error = Error::Connect {
            addresses: "127.0.0.1:7410".into(),
            problem: "connection refused".into(),
        };
        assert_eq!(
            explain("cannot list topics", &error).to_string(),
            "error: cannot list topics: no broker answers at 127.0.0.1:7410 (connection refused)\n  \
             start one: highwater dev\n  \
             or name one that runs: --brokers HOST:PORT, or HIGHWATER_BROKERS in the environment"
        );
    }

    #[test]
    fn other_servers_are_told_from_silence() {
        let explained = |problem: &str| {
            let error = Error::Connect {
                addresses: "h:80".into(),
                problem: problem.into(),
            };
            explain_connect("cannot list topics", "h:80", &error).to_string()
        };
        let other = explained("connection error detected: frame with invalid size");
        assert!(
            other.contains("what answers at h:80 is no Highwater broker"),
            "{other}"
        );
        let silent = explained("Connection refused (os error 111)");
        assert!(
            silent.contains("no broker answers at h:80 (Connection refused)"),
            "{silent}"
        );
    }

    #[test]
    fn tls_where_it_is_missing_and_where_it_is_not_wanted_is_told_with_its_options() {
        let explained = |problem| {
            let addresses = "h:1".to_owned();
            explain("cannot list topics", &Error::Tls { addresses, problem }).to_string()
        };
        let needed = explained(TlsProblem::Needed);
        assert!(
            needed.contains("h:1") && needed.contains("--tls-ca FILE"),
            "{needed}"
        );
        let not_spoken = explained(TlsProblem::NotSpoken);
        assert!(not_spoken.contains("leave out --tls"), "{not_spoken}");
    }

    #[test]
    fn what_cannot_be_a_name_is_not_suggested_to_be_created() {
        for name in ["", ".", "..", "a b", "a/b", "é"] {
            let text = unknown_topic("cannot consume", name, []).to_string();
            assert!(!text.contains("topic create"), "{text}");
        }
    }

    #[test]
    fn refusals_give_the_brokers_words_and_the_reason() {
        let error = Error::Api(ApiError::new(
            Reason::TopicAlreadyExists,
            "the topic exists",
        ));
        assert_eq!(
            explain("cannot create topic \"t\"", &error).to_string(),
            "error: cannot create topic \"t\": the topic exists (TOPIC_ALREADY_EXISTS)"
        );
    }

    #[test]
    fn a_full_disk_says_how_to_make_room() {
        let error = Error::Partition {
            topic: "t".into(),
            partition: 3,
            source: ApiError::new(Reason::DiskFull, "500 MiB are left"),
        };
        let text = explain("cannot produce", &error).to_string();
        assert!(text.contains("t/3: 500 MiB are left (DISK_FULL)"), "{text}");
        assert!(text.contains("highwater topic trim"), "{text}");
    }

    #[test]
    fn an_unknown_topic_suggests_near_names_and_how_to_create_it() {
        assert_eq!(
            unknown_topic("cannot consume", "fligths", ["flights", "orders"]).to_string(),
            "error: cannot consume: there is no such topic\n  did you mean flights?\n  \
             create it: highwater topic create fligths"
        );
    }
}
