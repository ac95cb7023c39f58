//! Where a broker is (`--brokers`): `HOST:PORT`, with IPv6 addresses in brackets.

/// Checks an address, and says what is wrong with it in words of its own for the usual slips. The host is looked up
/// when it is connected to.
pub(crate) fn parse(text: &str) -> Result<String, String> {
    const FORM: &str = "use HOST:PORT, such as 127.0.0.1:7410";
    if let Some((scheme, rest)) = text.split_once("://") {
        let rest = rest.trim_end_matches('/');
        return Err(format!("leave out `{scheme}://`: {rest}"));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(match text {
            "" => FORM.into(),
            host => format!("the port is missing; {host}:7410?"),
        });
    };
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return Err(format!(
            "an IPv6 address stands in brackets: [{host}]:{port}"
        ));
    }
    let is_host = !host.is_empty() && !host.contains(['/', ' ', '@', '?', '#']);
    match port.parse::<u16>() {
        Ok(1..) if is_host => Ok(text.into()),
        Ok(0) => Err("no broker can be reached at port 0".into()),
        Err(_) if is_host => Err(format!(
            "`{port}` is no port: it is a number from 1 to 65535"
        )),
        _ => Err(FORM.into()),
    }
}

/// The address of a broker whose host stands alone.
pub(crate) fn join(host: &str, port: u32) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for address in [
            "localhost:7410",
            "[::1]:7410",
            "127.0.0.1:1",
            "a-b.example:65535",
        ] {
            assert_eq!(parse(address), Ok(address.to_owned()));
        }
        for address in ["", ":7410", "a b:7410", "host/path:7410", "user@host:7410"] {
            assert_eq!(
                parse(address),
                Err("use HOST:PORT, such as 127.0.0.1:7410".into())
            );
        }
    }

    #[test]
    fn joined_addresses_are_addresses() {
        for (host, address) in [("h", "h:1"), ("::1", "[::1]:1"), ("[::1]", "[::1]:1")] {
            assert_eq!(join(host, 1), address);
            assert_eq!(parse(address), Ok(address.to_owned()));
        }
    }

    #[test]
    fn usual_slips_are_named() {
        for (address, problem) in [
            ("localhost", "the port is missing; localhost:7410?"),
            (
                "http://localhost:7410/",
                "leave out `http://`: localhost:7410",
            ),
            ("::1:7410", "an IPv6 address stands in brackets: [::1]:7410"),
            (
                "fe80::x:7410",
                "an IPv6 address stands in brackets: [fe80::x]:7410",
            ),
            (
                "localhost:",
                "`` is no port: it is a number from 1 to 65535",
            ),
            (
                "localhost:99999",
                "`99999` is no port: it is a number from 1 to 65535",
            ),
            ("localhost:0", "no broker can be reached at port 0"),
        ] {
            assert_eq!(parse(address), Err(problem.into()));
        }
    }
}
