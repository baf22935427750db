package oscar;

import jakarta.servlet.ServletContextEvent;
import jakarta.servlet.ServletContextListener;
import jakarta.websocket.CloseReason;
import jakarta.websocket.Endpoint;
import jakarta.websocket.EndpointConfig;
import jakarta.websocket.MessageHandler;
import jakarta.websocket.DeploymentException;
import jakarta.websocket.Session;
import jakarta.websocket.server.ServerContainer;
import jakarta.websocket.server.ServerEndpointConfig;
import java.io.IOException;
import java.nio.ByteBuffer;

/** A WebSocket at /socket/echo that sends back what it gets, text as text and bytes as bytes. */
public final class Socket implements ServletContextListener {
    @Override
    public void contextInitialized(ServletContextEvent event) {
        ServerContainer container = (ServerContainer) event.getServletContext().getAttribute(ServerContainer.class.getName());
        container.setDefaultMaxTextMessageBufferSize(1 << 20);
        container.setDefaultMaxBinaryMessageBufferSize(1 << 20);
        try {
            container.addEndpoint(ServerEndpointConfig.Builder.create(Peer.class, "/socket/echo").build());
        } catch (DeploymentException e) {
            throw new IllegalStateException(e);
        }
    }

    /** One open socket. */
    public static final class Peer extends Endpoint {
        @Override
        public void onOpen(Session session, EndpointConfig config) {
            session.addMessageHandler(new MessageHandler.Whole<String>() {
                @Override
                public void onMessage(String text) {
                    try {
                        if (text.equals("close")) {
                            session.close(new CloseReason(CloseReason.CloseCodes.NORMAL_CLOSURE, "asked to"));
                            return;
                        }
                        session.getBasicRemote().sendText(text);
                    } catch (IOException e) {
                        throw new IllegalStateException(e);
                    }
                }
            });
            session.addMessageHandler(new MessageHandler.Whole<ByteBuffer>() {
                @Override
                public void onMessage(ByteBuffer bytes) {
                    try {
                        session.getBasicRemote().sendBinary(bytes);
                    } catch (IOException e) {
                        throw new IllegalStateException(e);
                    }
                }
            });
        }
    }
}
