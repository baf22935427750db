package oscar;

import jakarta.servlet.ServletException;
import jakarta.servlet.http.Cookie;
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.io.OutputStream;
import java.util.Map;
import java.util.zip.GZIPOutputStream;
import org.apache.catalina.connector.ResponseFacade;

/** Answers that are hard to carry: redirects of every kind, cookies, gzip, trailers, 103, a body that breaks off, counts. */
public final class Wire extends HttpServlet {
    @Override
    protected void service(HttpServletRequest req, HttpServletResponse res) throws ServletException, IOException {
        res.setContentType("text/plain;charset=UTF-8");
        switch (req.getPathInfo() == null ? "" : req.getPathInfo()) {
            case "/redirect" -> redirect(req, res);
            case "/cookies" -> cookies(res);
            case "/gzip" -> gzip(res);
            case "/trailers" -> trailers(res);
            case "/hints" -> hints(res);
            case "/broken" -> broken(req, res);
            case "/counts" -> counts(res);
            case "/status" -> res.setStatus(Integer.parseInt(req.getParameter("code")));
            default -> res.sendError(404);
        }
    }

    private void redirect(HttpServletRequest req, HttpServletResponse res) throws IOException {
        String page = req.getContextPath() + "/index.jsp?from=redirect";
        String kind = req.getParameter("kind") == null ? "" : req.getParameter("kind");
        String to = switch (kind) {
            case "absolute" -> req.getScheme() + "://" + req.getServerName() + ":" + req.getServerPort() + page;
            case "private" -> "http://10.20.30.40:8080" + page;
            case "localhost" -> "http://localhost:8080" + page;
            case "outside-context" -> "/loginfailed.jsp";
            case "foreign" -> "https://elsewhere.example/";
            case "slashes" -> "//elsewhere.example/";
            default -> page;
        };
        res.setStatus(302);
        res.setHeader("Location", to);
    }

    private void cookies(HttpServletResponse res) throws IOException {
        for (String name : new String[] {"first", "second", "third"}) {
            Cookie c = new Cookie(name, "1");
            c.setPath("/oscar");
            res.addCookie(c);
        }
        res.addHeader("Set-Cookie", "wide=1; Domain=maple.localhost; Path=/");
        res.addHeader("Set-Cookie", "__Host-Http-sallyport=planted; Path=/; Secure; HttpOnly");
        res.addHeader("Set-Cookie", "__Host-sallyport=planted; Path=/; Secure");
        res.getWriter().println("cookies set");
    }

    private void gzip(HttpServletResponse res) throws IOException {
        res.setHeader("Content-Encoding", "gzip");
        res.setHeader("Vary", "Accept-Encoding");
        try (OutputStream out = new GZIPOutputStream(res.getOutputStream())) {
            out.write("packed by the origin\n".repeat(1000).getBytes("UTF-8"));
        }
    }

    private void trailers(HttpServletResponse res) throws IOException {
        res.setHeader("Trailer", "X-Checksum");
        res.setTrailerFields(() -> Map.of("X-Checksum", "c0ffee"));
        res.getWriter().print("a body with a trailer\n");
        res.flushBuffer();
    }

    private void hints(HttpServletResponse res) throws IOException {
        res.setHeader("Link", "</oscar/css/oscar.css>; rel=preload; as=style");
        if (res instanceof ResponseFacade facade) {
            facade.sendEarlyHints();
        }
        res.getWriter().println("after the hints");
    }

    /** Promises bytes= bytes, or with chunked=1 an unknown number, sends after= of them, and breaks off. */
    private void broken(HttpServletRequest req, HttpServletResponse res) throws IOException {
        int promised = Integer.parseInt(req.getParameter("bytes"));
        int sent = Integer.parseInt(req.getParameter("after"));
        if (!"1".equals(req.getParameter("chunked"))) {
            res.setContentLength(promised);
        }
        res.getOutputStream().write(new byte[sent]);
        res.flushBuffer();
        throw new IOException("broken off on demand");
    }

    private void counts(HttpServletResponse res) throws IOException {
        StringBuilder b = new StringBuilder("{");
        for (String what : new String[] {"writes", "notes", "logins", "uploadsBegun", "uploads", "localOnly", "polls"}) {
            b.append(b.length() > 1 ? "," : "").append(Text.json(what)).append(':').append(Clinic.counted(what));
        }
        res.setContentType("application/json;charset=UTF-8");
        res.getWriter().print(b.append("}"));
    }
}
