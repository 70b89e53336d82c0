//! etcd's messages byte by byte: written by hand from the numbers of etcd 3's `rpc.proto` and `kv.proto`.

use actioncontroller::proto::{etcd, etcd_grpc, kv};
use protobuf::MessageField;

use crate::pullpiri::wire::{check, number, t, text};

/// Bytes of one letter.
fn b(letter: &str) -> Vec<u8> {
    letter.as_bytes().to_vec()
}

/// A field that holds a message.
fn message(field: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u8::try_from(content.len()).unwrap();
    assert!(length < 0x80, "longer ones have more bytes of length");
    [vec![field << 3 | 2, length], content].concat()
}

fn header() -> (MessageField<etcd::ResponseHeader>, Vec<u8>) {
    let header = etcd::ResponseHeader { cluster_id: 1, member_id: 2, revision: 3, raft_term: 4, ..Default::default() };
    (MessageField::some(header), message(1, &[&number(1, 1), &number(2, 2), &number(3, 3), &number(4, 4)]))
}

fn key_value() -> (kv::KeyValue, Vec<u8>) {
    let key_value = kv::KeyValue {
        key: b("k"),
        create_revision: 2,
        mod_revision: 3,
        version: 4,
        value: b("v"),
        lease: 6,
        ..Default::default()
    };
    let golden =
        [&text(1, b'k')[..], &number(2, 2), &number(3, 3), &number(4, 4), &text(5, b'v'), &number(6, 6)].concat();
    (key_value, golden)
}

#[test]
fn messages_of_keys() {
    let ((header, golden_header), (key_value, golden_value)) = (header(), key_value());
    check(
        etcd::RangeRequest { key: b("a"), range_end: b("b"), limit: 3, revision: 4, ..Default::default() },
        &[&text(1, b'a'), &text(2, b'b'), &number(3, 3), &number(4, 4)],
    );
    check(
        etcd::RangeResponse { header, kvs: vec![key_value], more: true, count: 9, ..Default::default() },
        &[&golden_header, &message(2, &[&golden_value]), &number(3, 1), &number(4, 9)],
    );
    check(
        etcd::PutRequest { key: b("a"), value: b("b"), lease: 3, ..Default::default() },
        &[&text(1, b'a'), &text(2, b'b'), &number(3, 3)],
    );
    check(
        etcd::DeleteRangeRequest { key: b("a"), range_end: b("b"), ..Default::default() },
        &[&text(1, b'a'), &text(2, b'b')],
    );
    check(etcd::DeleteRangeResponse { deleted: 2, ..Default::default() }, &[&number(2, 2)]);
}

#[test]
fn messages_of_transactions() {
    use etcd::compare::{CompareResult, CompareTarget, Target_union};
    use etcd::request_op::Request;
    use etcd::response_op::Response;
    let of_target = |target: CompareTarget, union: Target_union| etcd::Compare {
        result: CompareResult::NOT_EQUAL.into(),
        target: target.into(),
        key: b("k"),
        target_union: Some(union),
        ..Default::default()
    };
    for (target, union, number_of_target, value) in [
        (CompareTarget::CREATE, Target_union::CreateRevision(5), 1, number(5, 5).to_vec()),
        (CompareTarget::MOD, Target_union::ModRevision(5), 2, number(6, 5).to_vec()),
        (CompareTarget::VALUE, Target_union::Value(b("v")), 3, text(7, b'v').to_vec()),
        (CompareTarget::LEASE, Target_union::Lease(5), 4, number(8, 5).to_vec()),
    ] {
        check(of_target(target, union), &[&number(1, 3), &number(2, number_of_target), &text(3, b'k'), &value]);
    }
    let request = |request| etcd::RequestOp { request: Some(request), ..Default::default() };
    let compare = etcd::Compare { key: b("k"), target_union: Some(Target_union::Version(5)), ..Default::default() };
    check(
        etcd::TxnRequest {
            compare: vec![compare],
            success: vec![
                request(Request::RequestPut(etcd::PutRequest { key: b("a"), ..Default::default() })),
                request(Request::RequestDeleteRange(etcd::DeleteRangeRequest { key: b("b"), ..Default::default() })),
            ],
            failure: vec![request(Request::RequestRange(etcd::RangeRequest { key: b("c"), ..Default::default() }))],
            ..Default::default()
        },
        &[
            // EQUAL and VERSION are 0, which is not written.
            &message(1, &[&text(3, b'k'), &number(4, 5)]),
            &message(2, &[&message(2, &[&text(1, b'a')])]),
            &message(2, &[&message(3, &[&text(1, b'b')])]),
            &message(3, &[&message(1, &[&text(1, b'c')])]),
        ],
    );
    let response = |response| etcd::ResponseOp { response: Some(response), ..Default::default() };
    let (header, golden_header) = header();
    check(
        etcd::TxnResponse {
            header,
            succeeded: true,
            responses: vec![
                response(Response::ResponseRange(etcd::RangeResponse { count: 1, ..Default::default() })),
                response(Response::ResponsePut(etcd::PutResponse::default())),
                response(Response::ResponseDeleteRange(etcd::DeleteRangeResponse { deleted: 2, ..Default::default() })),
            ],
            ..Default::default()
        },
        &[
            &golden_header,
            &number(2, 1),
            &message(3, &[&message(1, &[&number(4, 1)])]),
            &message(3, &[&message(2, &[])]),
            &message(3, &[&message(3, &[&number(2, 2)])]),
        ],
    );
}

#[test]
fn messages_of_leases_and_users() {
    let (header, golden_header) = header();
    check(etcd::LeaseGrantRequest { TTL: 1, ID: 2, ..Default::default() }, &[&number(1, 1), &number(2, 2)]);
    check(
        etcd::LeaseGrantResponse { header: header.clone(), ID: 2, TTL: 3, error: t("e"), ..Default::default() },
        &[&golden_header, &number(2, 2), &number(3, 3), &text(4, b'e')],
    );
    check(etcd::LeaseRevokeRequest { ID: 1, ..Default::default() }, &[&number(1, 1)]);
    check(etcd::LeaseRevokeResponse { header: header.clone(), ..Default::default() }, &[&golden_header]);
    check(etcd::LeaseKeepAliveRequest { ID: 1, ..Default::default() }, &[&number(1, 1)]);
    check(
        etcd::LeaseKeepAliveResponse { header: header.clone(), ID: 2, TTL: 3, ..Default::default() },
        &[&golden_header, &number(2, 2), &number(3, 3)],
    );
    check(
        etcd::AuthenticateRequest { name: t("a"), password: t("b"), ..Default::default() },
        &[&text(1, b'a'), &text(2, b'b')],
    );
    check(
        etcd::AuthenticateResponse { header, token: t("a"), ..Default::default() },
        &[&golden_header, &text(2, b'a')],
    );
}

#[test]
fn messages_of_watches() {
    use etcd::watch_request::Request_union;
    let create = etcd::WatchCreateRequest {
        key: b("a"),
        range_end: b("b"),
        start_revision: 3,
        watch_id: 7,
        fragment: true,
        ..Default::default()
    };
    let asked = |union| etcd::WatchRequest { request_union: Some(union), ..Default::default() };
    let golden = message(1, &[&text(1, b'a'), &text(2, b'b'), &number(3, 3), &number(7, 7), &number(8, 1)]);
    check(asked(Request_union::CreateRequest(create)), &[&golden]);
    check(asked(Request_union::ProgressRequest(etcd::WatchProgressRequest::default())), &[&message(3, &[])]);
    let ((header, golden_header), (key_value, golden_value)) = (header(), key_value());
    let event =
        kv::Event { type_: kv::event::EventType::DELETE.into(), kv: Some(key_value).into(), ..Default::default() };
    check(
        etcd::WatchResponse {
            header,
            watch_id: 2,
            created: true,
            canceled: true,
            compact_revision: 5,
            cancel_reason: t("c"),
            fragment: true,
            events: vec![event],
            ..Default::default()
        },
        &[
            &golden_header,
            &number(2, 2),
            &number(3, 1),
            &number(4, 1),
            &number(5, 5),
            &text(6, b'c'),
            &number(7, 1),
            &message(11, &[&number(1, 1), &message(2, &[&golden_value])]),
        ],
    );
}

#[test]
fn paths_of_etcds_methods() {
    for (path, name) in [
        (etcd_grpc::K_V_RANGE.name, "/etcdserverpb.KV/Range"),
        (etcd_grpc::K_V_TXN.name, "/etcdserverpb.KV/Txn"),
        (etcd_grpc::LEASE_LEASE_GRANT.name, "/etcdserverpb.Lease/LeaseGrant"),
        (etcd_grpc::LEASE_LEASE_REVOKE.name, "/etcdserverpb.Lease/LeaseRevoke"),
        (etcd_grpc::LEASE_LEASE_KEEP_ALIVE.name, "/etcdserverpb.Lease/LeaseKeepAlive"),
        (etcd_grpc::WATCH_WATCH.name, "/etcdserverpb.Watch/Watch"),
        (etcd_grpc::AUTH_AUTHENTICATE.name, "/etcdserverpb.Auth/Authenticate"),
    ] {
        assert_eq!(path, name);
    }
}
