"""The guards of SECURITY.md's section Limits and addresses."""

from . import Mutant

LIMITS = ["-p", "rowcast-edge", "--test", "limits"]
PROXIES = ["-p", "rowcast-edge", "--test", "proxies"]
UNITS = ["-p", "rowcast-edge", "--lib", "--"]
NUMBERS = "services/edge/src/limits/mod.rs"
DOOR = "services/edge/src/accept/mod.rs"
WORKER = "services/edge/src/worker.rs"
ADDRESS = "services/edge/src/address.rs"

MUTANTS = [
    Mutant(
        "pending: at the bound the longest waiting are cut",
        "services/edge/src/accept/pending.rs",
        "            home.make_room();\n",
        "",
        LIMITS,
    ),
    Mutant(
        "an edge takes as many open files as the system gives",
        "services/edge/src/run.rs",
        "    files::allow(&config.edge);\n",
        "",
        LIMITS,
    ),
    Mutant(
        "pending: a socket carries nobody before it has signed in",
        WORKER,
        "self.open(Transport::WebSocket, caller, self.limits, now());",
        "self.open(Transport::WebSocket, Caller { place: caller.place.inspect(|place| place.carries()), ..caller }, self.limits, now());",
        LIMITS,
    ),
    Mutant(
        "an edge has so many clients",
        NUMBERS,
        "(most == 0 || open < most)",
        "(most == 0 || open < usize::MAX)",
        LIMITS,
    ),
    Mutant(
        "a room has so many clients",
        NUMBERS,
        "if !counts.take(room.clone()) {",
        "if !counts.take(room.clone()) && rooms.is_empty() {",
        LIMITS,
    ),
    Mutant(
        "a user has so many clients",
        NUMBERS,
        "identity.subject.as_deref().filter(|_| self.users.is_on())",
        "identity.subject.as_deref().filter(|_| false)",
        LIMITS,
    ),
    Mutant(
        "a number is not exceeded by one",
        "services/edge/src/limits/counts.rs",
        "if *entry.get() >= self.most => false",
        "if *entry.get() > self.most => false",
        LIMITS,
    ),
    Mutant(
        "a refresh into a full room is refused",
        "services/edge/src/worker/judging.rs",
        "return self.close(connection, CloseCode::Limit, limit.reason(), now);",
        "tracing::debug!(limit = limit.label(), \"a refresh into a full room\");",
        LIMITS,
    ),
    Mutant(
        "who ends gives back its user's number",
        NUMBERS,
        "self.limits.users.give_back(user);",
        "drop(user);",
        [*UNITS, "limits::tests"],
    ),
    Mutant(
        "a refused change of rooms takes none",
        NUMBERS,
        "self.rooms.drain(begin..).for_each(|taken| counts.give_back(taken));",
        "",
        [*UNITS, "limits::tests"],
    ),
    Mutant(
        "an address has so many clients",
        NUMBERS,
        "address.filter(|_| self.addresses.is_on())",
        "address.filter(|_| false)",
        LIMITS,
    ),
    Mutant(
        "who ends gives back its address's number",
        NUMBERS,
        "self.limits.addresses.give_back(address);",
        "let _ = address;",
        LIMITS,
    ),
    Mutant(
        "so many come in a second",
        NUMBERS,
        "if !rate.take(&mut meter, 1, now) {",
        "if !rate.take(&mut meter, 0, now) {",
        LIMITS,
    ),
    Mutant(
        "so many come in a second from an address, and others pay nothing for it",
        NUMBERS,
        "&& !meters.take(address, now)",
        "&& !meters.take(IpAddr::from([0; 4]), now)",
        [*UNITS, "limits::tests"],
    ),
    Mutant(
        "what is kept of addresses is bounded",
        "services/edge/src/limits/rate.rs",
        "shard.old = std::mem::take(&mut shard.young);",
        "let young = std::mem::take(&mut shard.young);\n            shard.old.extend(young);",
        [*UNITS, "limits::rate"],
    ),
    Mutant(
        "a network of IPv6 is one address",
        ADDRESS,
        "Ipv6Net::new(v6, ipv6_prefix)",
        "Ipv6Net::new(v6, ipv6_prefix.max(128))",
        [*UNITS, "address::"],
    ),
    Mutant(
        "frames of every kind are counted",
        "services/edge/src/wire.rs",
        "self.frames += 1;",
        "self.frames += u32::from(opcode == OpCode::Text);",
        LIMITS,
    ),
    Mutant(
        "bytes are counted",
        "services/edge/src/socket.rs",
        "Err(limit) => self.refuse(limit),",
        "Err(_) => self.take_messages(messages),",
        LIMITS,
    ),
    Mutant(
        "a stranger's X-Forwarded-For says nothing",
        ADDRESS,
        "        if !self.contains(client) {\n            return client;\n        }\n",
        "",
        PROXIES,
    ),
    Mutant(
        "X-Forwarded-For is read from its end",
        ADDRESS,
        "forwarded.iter().rev().flat_map(|value| value.rsplit(','))",
        "forwarded.iter().flat_map(|value| value.split(','))",
        PROXIES,
    ),
    Mutant(
        "a stranger's PROXY header is not read",
        DOOR,
        "address.is_some_and(|address| self.header_from.contains(address.ip()))",
        "!self.header_from.is_empty()",
        PROXIES,
    ),
    Mutant(
        "a trusted proxy's connection without a header is closed",
        "services/edge/src/accept/header.rs",
        "return Err(HeaderFault::Missing);",
        "return Ok(None);",
        PROXIES,
    ),
    Mutant(
        "a PROXY header is waited for so long",
        DOOR,
        "const HEADER_TIME: Duration = Duration::from_secs(5);",
        "const HEADER_TIME: Duration = Duration::from_secs(3_600);",
        PROXIES,
    ),
    Mutant(
        "a PROXY header has so many bytes",
        "services/edge/src/accept/header.rs",
        "if rest > LONGEST_REST {",
        "if rest > usize::from(u16::MAX) {",
        [*UNITS, "accept::header"],
    ),
    Mutant(
        "where a PROXY header names nobody, the client's word does not either",
        DOOR,
        "address = Box::pin(self.read_header(&mut tcp)).await?;",
        "address = Box::pin(self.read_header(&mut tcp)).await?.or(address);",
        PROXIES,
    ),
]
