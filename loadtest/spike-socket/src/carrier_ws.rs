//! Carrier (a): `actix-ws`, one task a socket.

use actix_web::{Error, HttpRequest, HttpResponse, web};
use actix_ws::{Message, MessageStream, Session};
use bytestring::ByteString;

use crate::hub::Membership;
use crate::incoming::MAX_MESSAGE;

/// Answers the handshake and starts the socket's task.
pub async fn socket(request: HttpRequest, payload: web::Payload) -> Result<HttpResponse, Error> {
    let (response, session, stream) = actix_ws::handle(&request, payload)?;
    // The task ends with its socket: with the stream's end, or a session that is closed.
    drop(actix_rt::spawn(run(session, stream.max_frame_size(MAX_MESSAGE))));
    Ok(response)
}

async fn run(mut session: Session, mut stream: MessageStream) {
    let membership = Membership::join();
    loop {
        tokio::select! {
            message = stream.recv() => match message {
                Some(Ok(Message::Ping(bytes))) => if session.pong(&bytes).await.is_err() { return },
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                Some(Ok(_)) => {}
            },
            () = std::future::poll_fn(|context| membership.poll_any(context)) => {
                if membership.ended() {
                    break;
                }
                while let Some(text) = membership.pop() {
                    let text = ByteString::try_from(text).expect("the hub holds UTF-8");
                    if session.text(text).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
    // A socket that is gone already cannot be closed; nothing else can fail here.
    session.close(None).await.ok();
}
