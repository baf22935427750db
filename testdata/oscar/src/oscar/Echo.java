package oscar;

import jakarta.servlet.ServletException;
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.security.MessageDigest;
import java.util.Collections;
import java.util.HexFormat;
import java.util.Map;
import java.util.StringJoiner;

/** Tells, as JSON, all that arrived: addresses as mapped, header lines, every value of every parameter, body, trailers. */
public final class Echo extends HttpServlet {
    @Override
    protected void service(HttpServletRequest req, HttpServletResponse res) throws ServletException, IOException {
        write(req, res);
    }

    static void write(HttpServletRequest req, HttpServletResponse res) throws IOException {
        StringJoiner out = new StringJoiner(",", "{", "}");
        out.add(pair("method", req.getMethod()));
        out.add(pair("protocol", req.getProtocol()));
        out.add(pair("requestURI", req.getRequestURI()));
        out.add(pair("queryString", req.getQueryString()));
        // getContextPath gives the client's bytes; this is the application that runs.
        out.add(pair("application", req.getServletContext().getContextPath()));
        out.add(pair("contextPath", req.getContextPath()));
        out.add(pair("servletPath", req.getServletPath()));
        out.add(pair("pathInfo", req.getPathInfo()));
        out.add(pair("scheme", req.getScheme()));
        out.add(pair("serverName", req.getServerName()));
        out.add("\"serverPort\":" + req.getServerPort());
        out.add(pair("requestURL", req.getRequestURL().toString()));
        out.add(pair("remoteAddr", req.getRemoteAddr()));
        out.add("\"secure\":" + req.isSecure());
        out.add(pair("requestedSessionId", req.getRequestedSessionId()));
        StringJoiner headers = new StringJoiner(",", "[", "]");
        for (String name : Collections.list(req.getHeaderNames())) {
            for (String value : Collections.list(req.getHeaders(name))) {
                headers.add("[" + Text.json(name) + "," + Text.json(value) + "]");
            }
        }
        out.add("\"headers\":" + headers);
        StringJoiner parameters = new StringJoiner(",", "{", "}");
        for (Map.Entry<String, String[]> e : req.getParameterMap().entrySet()) {
            StringJoiner values = new StringJoiner(",", "[", "]");
            for (String value : e.getValue()) {
                values.add(Text.json(value));
            }
            parameters.add(Text.json(e.getKey()) + ":" + values);
        }
        out.add("\"parameters\":" + parameters);
        body(req, out);
        StringJoiner trailers = new StringJoiner(",", "{", "}");
        if (req.isTrailerFieldsReady()) {
            req.getTrailerFields().forEach((k, v) -> trailers.add(pair(k, v)));
        }
        out.add("\"trailers\":" + trailers);
        res.setContentType("application/json;charset=UTF-8");
        res.setHeader("Cache-Control", "no-store");
        res.getWriter().print(out);
    }

    /** What getParameterMap left of the body: everything but forms, which Tomcat has taken apart. */
    private static void body(HttpServletRequest req, StringJoiner out) throws IOException {
        MessageDigest digest = Digests.sha256();
        long n = 0;
        byte[] buffer = new byte[64 << 10];
        for (int got; (got = req.getInputStream().read(buffer)) >= 0; n += got) {
            digest.update(buffer, 0, got);
        }
        out.add("\"bodyBytes\":" + n);
        out.add(pair("bodySHA256", HexFormat.of().formatHex(digest.digest())));
    }

    private static String pair(String name, String value) {
        return Text.json(name) + ":" + Text.json(value);
    }
}
