package oscar;

import jakarta.servlet.ServletException;
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.io.PrintWriter;

/** A report that takes seconds= seconds (default 200): silent until it is done, or with rows=1 a row each second. */
public final class Report extends HttpServlet {
    @Override
    protected void doGet(HttpServletRequest req, HttpServletResponse res) throws ServletException, IOException {
        double seconds = req.getParameter("seconds") == null ? 200 : Double.parseDouble(req.getParameter("seconds"));
        boolean rows = "1".equals(req.getParameter("rows"));
        long end = System.nanoTime() + (long) (seconds * 1e9);
        res.setContentType("text/html;charset=UTF-8");
        PrintWriter out = null;
        for (int row = 1; System.nanoTime() < end; row++) {
            if (rows) {
                out = res.getWriter();
                out.println("<p>row " + row + "</p>");
                res.flushBuffer();
            }
            try {
                Thread.sleep(Math.max(1, Math.min(1000, (end - System.nanoTime()) / 1_000_000)));
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
                return;
            }
        }
        out = res.getWriter();
        out.println("<p id=\"done\">Report complete.</p>");
    }
}
