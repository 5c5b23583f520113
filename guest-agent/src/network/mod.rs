//! The guest's network devices: what the host says they are. Each is found by the MAC address that the VMM gave it.

mod devices;
mod netlink;
pub(crate) mod plan;

use crate::boot;
use crate::contract::{ConfigureNetworkRequest, FailureReason};
use crate::failure::{Doing, Failure, Result};
use devices::{Device, Devices};
use plan::{DevicePlan, Plan};

/// Checks the whole of the request first, then makes one device after the other.
pub fn configure(request: &ConfigureNetworkRequest) -> Result<()> {
    let plan = Plan::check(request)?;
    boot::bring_up_loopback()?;
    let mut devices = Devices::open()?;
    let found = plan
        .devices
        .into_iter()
        .map(|device_plan| Ok((find(&mut devices, &device_plan)?, device_plan)))
        .collect::<Result<Vec<_>>>()?;
    // All of them first, so that two can change their names.
    for (device, _) in &found {
        devices.clear(device)?;
    }
    for (device, device_plan) in &found {
        set_up(&mut devices, device, device_plan).inspect_err(|_| {
            let _ = devices.clear(device);
        })?;
    }
    Ok(())
}

fn find(devices: &mut Devices, plan: &DevicePlan) -> Result<Device> {
    devices.find(plan.permanent_mac())?.ok_or_else(|| {
        Failure::new(
            FailureReason::NoSuchDevice,
            format!("there is no network device in slot {}", plan.slot),
        )
    })
}

fn set_up(devices: &mut Devices, device: &Device, plan: &DevicePlan) -> Result<()> {
    let name = &plan.name;
    devices.identify(device, plan)?;
    // Addresses that the kernel makes itself, of the link, are usable at once as well.
    std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/accept_dad"), "0")
        .doing(|| format!("turning off duplicate address detection on {name}"))?;
    devices.bring_up(device, name)?;
    for address in &plan.addresses {
        devices.add_address(device, *address)?;
    }
    for route in &plan.routes {
        devices.add_route(device, route)?;
    }
    for (address, mac) in &plan.neighbours {
        devices.add_neighbour(device, *address, *mac)?;
    }
    Ok(())
}
