//! Names and store numbers of roles, scopes and permissions, and sets of them.

use super::super::*;

const INVALID_STORE_NUMBERS: [i64; 8] =
    [-1, i64::MIN, i64::MAX, 1 << 8, 1 << 16, 1 << 32, (1 << 32) + 1, 0x1_0001];

#[test]
fn roles_ascend_from_viewer_to_owner() {
    assert!(Role::Viewer < Role::Member);
    assert!(Role::Member < Role::Admin);
    assert!(Role::Admin < Role::Owner);
    assert!(Role::ALL.is_sorted());
}

#[test]
fn each_role_may_exercise_its_scopes() {
    let may = Role::ALL.map(|role| role.may_exercise().to_string());
    assert_eq!(may, ["read", "read capture", "read capture admin", "read capture admin"]);
}

#[test]
fn a_role_round_trips_through_its_name_and_its_number() {
    assert_eq!(Role::ALL.map(Role::as_str), ["viewer", "member", "admin", "owner"]);
    assert_eq!(Role::ALL.map(Role::number), [1, 2, 3, 4]);
    for role in Role::ALL {
        assert_eq!(role.to_string().parse(), Ok(role));
        assert_eq!(Role::from_number(role.number().into()), Some(role));
    }
    for bad in ["", "Viewer", "OWNER", " owner", "owner ", "root", "4", "owner,admin"] {
        assert!(bad.parse::<Role>().is_err(), "{bad:?}");
    }
    for number in [0, 5, 257, 260].into_iter().chain(INVALID_STORE_NUMBERS) {
        assert_eq!(Role::from_number(number), None, "{number}");
    }
}

#[test]
fn a_scope_parses_from_its_name_only() {
    let numbers = |scope: Scope| (scope.as_str(), scope as u8, scope.to_proto().into());
    let expected = [("read", 1, 1), ("capture", 2, 2), ("admin", 4, 3)];
    assert_eq!(Scope::ALL.map(numbers), expected, "the name, the store's bit, the proto's number");
    for scope in Scope::ALL {
        assert_eq!(scope.to_string().parse(), Ok(scope));
    }
    for bad in [
        "",
        "*",
        "Read",
        "READ",
        " read",
        "read ",
        "read capture",
        "read,capture",
        "\"read\"",
        "admin:*",
        "write",
        "1",
        "read\0",
    ] {
        assert!(bad.parse::<Scope>().is_err(), "{bad:?}");
    }
}

#[test]
fn a_scope_set_round_trips_through_its_number_and_its_members() {
    for bits in 0..=ScopeSet::ALL.bits() {
        let set = ScopeSet::from_bits(bits.into()).expect("each bit is a scope");
        assert_eq!(set.bits(), bits);
        assert_eq!(set.iter().collect::<ScopeSet>(), set);
        assert_eq!(ScopeSet::from_scopes(&set.iter().collect::<Vec<_>>()), set);
        assert_eq!(set.iter().count(), bits.count_ones() as usize);
        assert_eq!(set.is_empty(), bits == 0);
        assert!(set.iter().is_sorted());
    }
    let unknown = i64::from(ScopeSet::ALL.bits()) + 1;
    for number in [unknown, 2 * unknown - 1, 255].into_iter().chain(INVALID_STORE_NUMBERS) {
        assert_eq!(ScopeSet::from_bits(number), None, "{number}");
    }
}

#[test]
fn scopes_are_listed_once_each_in_one_order() {
    let set: ScopeSet =
        [Scope::Admin, Scope::Read, Scope::Admin, Scope::Read].into_iter().collect();
    assert_eq!(set.iter().collect::<Vec<_>>(), [Scope::Read, Scope::Admin]);
    assert_eq!(set.to_string(), "read admin");
    assert_eq!(ScopeSet::ALL.to_string(), Scope::ALL.map(Scope::as_str).join(" "));
    assert_eq!(ScopeSet::NONE.to_string(), "");
    assert_eq!(ScopeSet::default(), ScopeSet::NONE);
}

#[test]
fn intersection_and_difference_are_those_of_sets() {
    for a in 0..=ScopeSet::ALL.bits() {
        for b in 0..=ScopeSet::ALL.bits() {
            let (a, b) = (ScopeSet::from_bits(a.into()), ScopeSet::from_bits(b.into()));
            let (a, b) = a.zip(b).expect("each bit is a scope");
            for scope in Scope::ALL {
                let (in_a, in_b) = (a.contains(scope), b.contains(scope));
                assert_eq!(a.intersection(b).contains(scope), in_a && in_b);
                assert_eq!(a.difference(b).contains(scope), in_a && !in_b);
            }
        }
    }
}

#[test]
fn a_permission_parses_from_its_name_only() {
    let names = [
        "introspect",
        "credentials.read",
        "credentials.write",
        "credentials.admin",
        "directory.read",
        "directory.write",
        "audit.read",
        "callers.admin",
        "status.read",
    ];
    assert_eq!(Permission::ALL.map(Permission::as_str), names);
    for permission in Permission::ALL {
        assert_eq!(permission.to_string().parse(), Ok(permission));
    }
    for bad in
        ["", "*", "Introspect", "credentials", "credentials.*", "credentials_read", " introspect"]
    {
        assert!(bad.parse::<Permission>().is_err(), "{bad:?}");
    }
}

#[test]
fn each_permission_has_its_own_bit() {
    for (i, permission) in Permission::ALL.into_iter().enumerate() {
        let single: PermissionSet = [permission].into_iter().collect();
        assert_eq!(single.bits(), 1 << i);
        assert!(
            Permission::ALL.iter().all(|other| single.contains(*other) == (*other == permission))
        );
    }
}

#[test]
fn a_permission_set_round_trips_through_its_number_and_its_members() {
    for bits in 0..=511_u16 {
        let set = PermissionSet::from_bits(bits.into()).expect("nine bits are nine permissions");
        assert_eq!(set.bits(), bits);
        assert_eq!(set.iter().collect::<PermissionSet>(), set);
        assert_eq!(set.is_empty(), bits == 0);
        assert!(set.difference(set).is_empty());
        assert_eq!(set.difference(PermissionSet::default()), set);
        assert_eq!(PermissionSet::ALL.difference(set).bits(), 511 - bits);
    }
    assert_eq!(PermissionSet::ALL.bits(), 511);
    // 1 << 8 is one of them.
    for number in INVALID_STORE_NUMBERS.into_iter().filter(|number| *number != 1 << 8) {
        assert_eq!(PermissionSet::from_bits(number), None, "{number}");
    }
}

#[test]
fn a_permission_of_a_newer_program_permits_nothing_and_is_kept() {
    let set = PermissionSet::from_bits(0x201).expect("a number");
    assert_eq!(set.iter().collect::<Vec<_>>(), [Permission::Introspect]);
    assert_eq!(set.bits(), 0x201);
    // Whoever does not hold it may not take over the caller that does.
    assert!(!set.difference(PermissionSet::ALL).is_empty());
}

#[test]
fn permissions_are_listed_for_people() {
    let set: PermissionSet = [Permission::AuditRead, Permission::Introspect].into_iter().collect();
    assert_eq!(set.to_string(), "introspect, audit.read");
    assert_eq!(PermissionSet::default().to_string(), "");
}
