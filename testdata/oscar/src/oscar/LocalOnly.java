package oscar;

import jakarta.servlet.ServletException;
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;

/** A page for programs on the same machine: whoever comes from 127.0.0.1 gets it, without signing in. */
public final class LocalOnly extends HttpServlet {
    @Override
    protected void service(HttpServletRequest req, HttpServletResponse res) throws ServletException, IOException {
        if (!req.getRemoteAddr().equals("127.0.0.1") && !req.getRemoteAddr().equals("0:0:0:0:0:0:0:1")) {
            res.sendError(403);
            return;
        }
        Clinic.count("localOnly");
        res.setContentType("text/plain;charset=UTF-8");
        res.getWriter().println("local only: everything about everybody");
    }
}
