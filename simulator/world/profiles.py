"""Ways to make a plan of what was drawn: faults that others would hide, and what broke other engines in the field.

The names of the field reports are those of their public issues.
"""

from collections.abc import Callable
from dataclasses import replace

from simulator.world.plan import Plan

YEAR_MS = 365 * 24 * 60 * 60_000


def swarm(plan: Plan) -> Plan:
    """Any mix of all faults."""
    return plan


def _only(plan: Plan) -> Plan:
    """One user, and nothing goes wrong but what a profile adds."""
    return replace(
        plan,
        devices=min(plan.devices, 3),
        users=1,
        power_share=0.0,
        partitions=False,
        upgrades=False,
        restores_cloud=False,
        forgets_tombstones=False,
        clones=False,
        clocks_jump=False,
        has_weather=False,
        disk_failures=0,
        cloud_fails=False,
        damages=False,
        leaves=False,
        downgrades=False,
    )


def partitions(plan: Plan) -> Plan:
    """Lines are cut, both ways or one way, and nothing else goes wrong."""
    return replace(
        _only(plan),
        partitions=True,
        upgrades=plan.upgrades,
        edits_per_device=min(plan.edits_per_device, 6),
        faults_ms=6 * 60_000,
    )


def long_offline(plan: Plan) -> Plan:
    """Devices are without a line for most of the time, and their apps are upgraded meanwhile."""
    return replace(_only(plan), partitions=True, pattern="long", upgrades=True)


def flapping(plan: Plan) -> Plan:
    """The line is cut whenever a device is about to try again."""
    return replace(_only(plan), partitions=True, pattern="flapping")


def toggle(plan: Plan) -> Plan:
    """Connectivity goes on and off, as a person does it to a demonstration."""
    return replace(_only(plan), partitions=True, pattern="toggle", upgrades=plan.upgrades)


def dead_device(plan: Plan) -> Plan:
    """One device never comes back; the others must not wait for it."""
    return replace(plan, devices=3, partitions=True, pattern="dead_device", clones=False)


def slow_only(plan: Plan) -> Plan:
    """Every answer comes, and all come late."""
    return replace(_only(plan), has_weather=True, weather="slow")


def captive_portal(plan: Plan) -> Plan:
    """Somebody else answers, with 200 and a page."""
    return replace(_only(plan), has_weather=True, weather="portal")


def disk_full(plan: Plan) -> Plan:
    """Disks are full for a while, of devices and of the cloud."""
    return replace(_only(plan), disk_failures=3, disk_failure="full", cloud_fails=True, upgrades=True)


def disk_damage(plan: Plan) -> Plan:
    """Disks fail, and bytes flip in their files."""
    return replace(_only(plan), disk_failures=1, disk_failure="io", damages=True, records_disk=True)


def clock_chaos(plan: Plan) -> Plan:
    """Wall clocks jump by years, to and fro."""
    return replace(_only(plan), clocks_jump=True, jumps_each=6, jump_ms_max=10 * YEAR_MS, has_weather=True)


def upgrade_storm(plan: Plan) -> Plan:
    """Every app is upgraded, some skip a version, some go back for a moment; power goes meanwhile."""
    return replace(
        plan, upgrades=True, upgrades_each=4, downgrades=True, records_disk=True, power_share=0.02, leaves=False
    )


def starts_offline(plan: Plan) -> Plan:
    """amplify-android 2077 and 1794, amplify-swift 1718, powersync.dart 253: the queue stops after a timeout, or
    where the app was started offline, and never goes on."""
    return replace(
        _only(plan), partitions=True, pattern="late_start", has_weather=True, weather="timeouts", power_share=0.01
    )


def third_update(plan: Plan) -> Plan:
    """amplify-swift 1324: the third update of a row is lost while the second is on its way."""
    return replace(
        _only(plan), few_keys=True, edits_per_device=12, has_weather=True, weather="slow", edits_while_reading=0.5
    )


def upgrade_with_a_queue(plan: Plan) -> Plan:
    """amplify-swift 3746, WatermelonDB 1609, tutanota 4129, offix 686 and 187, flutter_data 279: an upgrade takes
    what was not sent."""
    return replace(
        _only(plan),
        partitions=True,
        pattern="long",
        upgrades=True,
        upgrades_each=3,
        power_share=0.02,
        records_disk=True,
        edits_per_device=10,
    )


def lost_answers(plan: Plan) -> Plan:
    """MerginMaps 3642, turtl 135, azure-mobile-services 811, myplanet 14415: the cloud has done it, the answer is
    lost, and what comes next is done twice or refused for ever."""
    return replace(_only(plan), has_weather=True, weather="lost_answers", cloud_fails=True)


def user_switch(plan: Plan) -> Plan:
    """ground-android 1683, PackRat 2751, NewsBlur 215, realm-object-store 518 and 232: one user's queue goes with
    another's token, or signing out loses it."""
    return replace(_only(plan), users=2, switches_users=True, leaves=True, has_weather=True)


def device_clock_cursor(plan: Plan) -> Plan:
    """dynos-sync 93, WatermelonDB 1219 and 649: a cursor by the device's clock skips rows for ever."""
    return replace(_only(plan), devices=3, clocks_jump=True, jumps_each=3, few_keys=True, power_share=0.01)


def older_reads(plan: Plan) -> Plan:
    """Jepsen's runs of PowerSync: reading goes backwards, a transaction is uploaded twice."""
    return replace(_only(plan), devices=3, has_weather=True, weather="repeats", restores_cloud=plan.restores_cloud)


def heros_path(plan: Plan) -> Plan:
    """Hero's Path and its own migrations: two devices, their walks, places and settings."""
    return replace(
        plan,
        app="heros_path",
        devices=2,
        upgrades=True,
        upgrades_each=1,
        edits_per_device=min(plan.edits_per_device, 5),
        power_share=min(plan.power_share, 0.01),
        batch_entries=max(plan.batch_entries, 10),
        room_rows=0,
        # Of imported rows that wait for their upload nobody could tell what went with a user or a file.
        leaves=plan.leaves and not plan.imports,
        damages=plan.damages and not plan.imports,
        clones=plan.clones and not plan.imports,
        faults_ms=3 * 60_000,
    )


def kin(plan: Plan) -> Plan:
    """Tables that refer to each other: parents are deleted here while children are made there."""
    return replace(plan, app="kin", edits_per_device=plan.edits_per_device + 4)


PROFILES: dict[str, Callable[[Plan], Plan]] = {
    "swarm": swarm,
    "partitions": partitions,
    "long_offline": long_offline,
    "flapping": flapping,
    "toggle": toggle,
    "dead_device": dead_device,
    "slow_only": slow_only,
    "captive_portal": captive_portal,
    "disk_full": disk_full,
    "disk_damage": disk_damage,
    "clock_chaos": clock_chaos,
    "upgrade_storm": upgrade_storm,
    "starts_offline": starts_offline,
    "third_update": third_update,
    "upgrade_with_a_queue": upgrade_with_a_queue,
    "lost_answers": lost_answers,
    "user_switch": user_switch,
    "device_clock_cursor": device_clock_cursor,
    "older_reads": older_reads,
    "heros_path": heros_path,
    "kin": kin,
}
