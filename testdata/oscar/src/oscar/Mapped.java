package oscar;

import jakarta.servlet.FilterChain;
import jakarta.servlet.ServletException;
import jakarta.servlet.http.HttpFilter;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;

/** With the header X-Mapped: 1, tells what Tomcat mapped the request to instead of running it. */
public final class Mapped extends HttpFilter {
    @Override
    protected void doFilter(HttpServletRequest req, HttpServletResponse res, FilterChain chain) throws IOException, ServletException {
        if ("1".equals(req.getHeader("X-Mapped"))) {
            Echo.write(req, res);
            return;
        }
        chain.doFilter(req, res);
    }
}
