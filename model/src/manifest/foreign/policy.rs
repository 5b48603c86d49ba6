//! What Calico's policies may ask for beyond addresses, labels and ports: refused by name.

/// A field of policies that is not built, and what to use instead.
pub(super) struct PolicyField {
    /// Path from the object, or from a rule, or from an end of a rule.
    pub(super) path: &'static str,
    /// Values that ask for nothing.
    pub(super) harmless: &'static [&'static str],
    pub(super) mend: &'static str,
}

const fn field(
    path: &'static str,
    harmless: &'static [&'static str],
    mend: &'static str,
) -> PolicyField {
    PolicyField {
        path,
        harmless,
        mend,
    }
}

const USE_ACCOUNT_LABEL: &str =
    "write projectcalico.org/serviceaccount == 'NAME' into the selector";

/// Of the specification.
pub(super) const OF_SPEC: &[PolicyField] = &[
    field(
        "serviceAccountSelector",
        &[],
        "write projectcalico.org/serviceaccount == 'NAME' into spec.selector",
    ),
    field(
        "doNotTrack",
        &[],
        "remove it; every connection is tracked, at the cost of one look-up a packet",
    ),
    field(
        "preDNAT",
        &[],
        "remove it; write a policy for the address that the packet has when it arrives",
    ),
    field(
        "applyOnForward",
        &[],
        "remove it; what is forwarded is judged by the policies of the workloads at its ends",
    ),
    field(
        "performanceHints",
        &["AssumeNeededOnEveryNode"],
        "remove it; a policy is compiled where it is used",
    ),
];

/// Of each rule.
pub(super) const OF_RULE: &[PolicyField] = &[field(
    "http",
    &[],
    "remove it; allow the port, and filter requests in a proxy of the workload",
)];

/// Of each end of a rule.
pub(super) const OF_ENTITY: &[PolicyField] = &[
    field("serviceAccounts", &[], USE_ACCOUNT_LABEL),
    field(
        "services",
        &[],
        "remove it; select the workloads behind the service by their labels",
    ),
    field(
        "domains",
        &[],
        "remove it; write the addresses as nets, or into a GlobalNetworkSet",
    ),
];
