//! The generated trait, call by call.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::archives::UnpackStream;
use super::{Agent, to_the_end};
use crate::contract::agent_service_server::AgentService;
use crate::contract::{self, attach_request, relay_names_request};
use crate::failure::Failure;
use crate::names::NameRelay;
use crate::process::{self, Attachment};

type Answer<T> = Result<Response<T>, Status>;

/// A handle to the agent for one connection.
#[derive(Clone)]
pub struct Service(pub Arc<Agent>);

#[async_trait]
impl AgentService for Service {
    async fn hello(&self, request: Request<contract::HelloRequest>) -> Answer<contract::HelloResponse> {
        Ok(Response::new(self.0.hello(request.into_inner().protocol)?))
    }

    async fn personalize(
        &self,
        request: Request<contract::PersonalizeRequest>,
    ) -> Answer<contract::PersonalizeResponse> {
        let realtime_ns = self.0.personalize(&request.into_inner())?;
        Ok(Response::new(contract::PersonalizeResponse { realtime_ns }))
    }

    async fn configure_network(
        &self,
        request: Request<contract::ConfigureNetworkRequest>,
    ) -> Answer<contract::ConfigureNetworkResponse> {
        to_the_end(Arc::clone(&self.0).configure_network(request.into_inner())).await?;
        Ok(Response::new(contract::ConfigureNetworkResponse {}))
    }

    async fn prepare_template(
        &self,
        _: Request<contract::PrepareTemplateRequest>,
    ) -> Answer<contract::PrepareTemplateResponse> {
        self.0.prepare_template()?;
        Ok(Response::new(contract::PrepareTemplateResponse {}))
    }

    async fn prepare_root(
        &self,
        request: Request<contract::PrepareRootRequest>,
    ) -> Answer<contract::PrepareRootResponse> {
        to_the_end(Arc::clone(&self.0).prepare_root(request.into_inner())).await?;
        Ok(Response::new(contract::PrepareRootResponse {}))
    }

    async fn create_container(
        &self,
        request: Request<contract::CreateContainerRequest>,
    ) -> Answer<contract::CreateContainerResponse> {
        let guest_pid = to_the_end(Arc::clone(&self.0).create(request.into_inner())).await?;
        Ok(Response::new(contract::CreateContainerResponse { guest_pid }))
    }

    async fn start_container(
        &self,
        request: Request<contract::StartContainerRequest>,
    ) -> Answer<contract::StartContainerResponse> {
        to_the_end(Arc::clone(&self.0).start(request.into_inner().container_id)).await?;
        Ok(Response::new(contract::StartContainerResponse {}))
    }

    async fn delete_container(
        &self,
        request: Request<contract::DeleteContainerRequest>,
    ) -> Answer<contract::DeleteContainerResponse> {
        to_the_end(Arc::clone(&self.0).delete(request.into_inner().container_id)).await?;
        Ok(Response::new(contract::DeleteContainerResponse {}))
    }

    async fn update_container(
        &self,
        request: Request<contract::UpdateContainerRequest>,
    ) -> Answer<contract::UpdateContainerResponse> {
        let request = request.into_inner();
        self.0
            .update(&request.container_id, &request.resources.unwrap_or_default())?;
        Ok(Response::new(contract::UpdateContainerResponse {}))
    }

    async fn pause_container(
        &self,
        request: Request<contract::PauseContainerRequest>,
    ) -> Answer<contract::PauseContainerResponse> {
        to_the_end(Arc::clone(&self.0).pause(request.into_inner().container_id)).await?;
        Ok(Response::new(contract::PauseContainerResponse {}))
    }

    async fn resume_container(
        &self,
        request: Request<contract::ResumeContainerRequest>,
    ) -> Answer<contract::ResumeContainerResponse> {
        self.0.resume(&request.into_inner().container_id)?;
        Ok(Response::new(contract::ResumeContainerResponse {}))
    }

    async fn container_stats(
        &self,
        request: Request<contract::ContainerStatsRequest>,
    ) -> Answer<contract::ContainerStatsResponse> {
        let files = self.0.stats(&request.into_inner().container_id)?;
        Ok(Response::new(contract::ContainerStatsResponse { files }))
    }

    async fn exec(&self, request: Request<contract::ExecRequest>) -> Answer<contract::ExecResponse> {
        let guest_pid = to_the_end(Arc::clone(&self.0).exec(request.into_inner())).await?;
        Ok(Response::new(contract::ExecResponse { guest_pid }))
    }

    type AttachStream = Attachment;

    async fn attach(&self, request: Request<Streaming<contract::AttachRequest>>) -> Answer<Attachment> {
        let mut requests = request.into_inner();
        let first = requests.message().await?.and_then(|request| request.message);
        let Some(attach_request::Message::Open(open)) = first else {
            return Err(Failure::invalid("an attachment begins with its opening").into());
        };
        let process = self.0.container(&open.container_id)?.process(&open.process_id)?;
        Ok(Response::new(process::attach(process, &open, requests)?))
    }

    type RelayNamesStream = NameRelay;

    async fn relay_names(&self, request: Request<Streaming<contract::RelayNamesRequest>>) -> Answer<NameRelay> {
        let mut requests = request.into_inner();
        let first = requests.message().await?.and_then(|request| request.message);
        let Some(relay_names_request::Message::Open(open)) = first else {
            return Err(Failure::invalid("a relay of names begins with its opening").into());
        };
        Ok(Response::new(NameRelay::open(&open.address, requests).await?))
    }

    async fn signal(&self, request: Request<contract::SignalRequest>) -> Answer<contract::SignalResponse> {
        self.0.signal(&request.into_inner())?;
        Ok(Response::new(contract::SignalResponse {}))
    }

    async fn release_process(
        &self,
        request: Request<contract::ReleaseProcessRequest>,
    ) -> Answer<contract::ReleaseProcessResponse> {
        let request = request.into_inner();
        self.0.container(&request.container_id)?.release(&request.process_id)?;
        Ok(Response::new(contract::ReleaseProcessResponse {}))
    }

    async fn list_processes(
        &self,
        request: Request<contract::ListProcessesRequest>,
    ) -> Answer<contract::ListProcessesResponse> {
        let processes = self.0.list_processes(&request.into_inner().container_id)?;
        Ok(Response::new(contract::ListProcessesResponse { processes }))
    }

    async fn list_containers(
        &self,
        _: Request<contract::ListContainersRequest>,
    ) -> Answer<contract::ListContainersResponse> {
        let containers = self.0.list_containers();
        Ok(Response::new(contract::ListContainersResponse { containers }))
    }

    type UnpackLayersStream = Receiving;

    async fn unpack_layers(&self, request: Request<contract::UnpackLayersRequest>) -> Answer<Receiving> {
        Ok(Response::new(Receiving(
            self.0.unpack_layers(request.into_inner()).await?,
        )))
    }

    async fn pack_path(&self, request: Request<contract::PackPathRequest>) -> Answer<contract::PackPathResponse> {
        let length = to_the_end(Arc::clone(&self.0).pack_path(request.into_inner())).await?;
        Ok(Response::new(contract::PackPathResponse { length }))
    }

    async fn extract_archive(
        &self,
        request: Request<contract::ExtractArchiveRequest>,
    ) -> Answer<contract::ExtractArchiveResponse> {
        to_the_end(Arc::clone(&self.0).extract_archive(request.into_inner())).await?;
        Ok(Response::new(contract::ExtractArchiveResponse {}))
    }

    async fn stat_path(&self, request: Request<contract::StatPathRequest>) -> Answer<contract::StatPathResponse> {
        Ok(Response::new(
            to_the_end(Arc::clone(&self.0).stat_path(request.into_inner())).await?,
        ))
    }

    async fn shutdown(&self, _: Request<contract::ShutdownRequest>) -> Answer<contract::ShutdownResponse> {
        to_the_end(Arc::clone(&self.0).shut_down()).await?;
        Ok(Response::new(contract::ShutdownResponse {}))
    }
}

/// A channel's receiving end as a stream.
pub struct Receiving(UnpackStream);

impl Stream for Receiving {
    type Item = Result<contract::UnpackLayersResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}
