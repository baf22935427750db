package oscar;

import jakarta.servlet.ServletException;
import jakarta.servlet.http.Cookie;
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import jakarta.servlet.http.HttpSession;
import java.io.IOException;

/** Everything that ends in .do: the path names the action, a parameter names what it does, the method means nothing. */
public final class Actions extends HttpServlet {
    @Override
    protected void service(HttpServletRequest req, HttpServletResponse res) throws ServletException, IOException {
        req.setCharacterEncoding("UTF-8");
        res.setHeader("Cache-Control", "no-cache, no-store");
        switch (req.getServletPath()) {
            case "/login.do" -> login(req, res);
            case "/logout.do" -> logout(req, res);
            case "/CaseManagementEntry.do" -> note(req, res);
            case "/eform/addEForm.do" -> form(req, res);
            case "/SystemMessage.do", "/FacilityMessage.do" -> plain(res, "");
            default -> res.sendError(404);
        }
    }

    private void login(HttpServletRequest req, HttpServletResponse res) throws IOException {
        if (!req.getMethod().equals("POST")) {
            res.sendRedirect(res.encodeRedirectURL(req.getContextPath() + "/index.jsp"));
            return;
        }
        String address = req.getRemoteAddr();
        boolean good = !Clinic.locked(address) && "oscardoc".equals(req.getParameter("username"))
            && "mac2002".equals(req.getParameter("password")) && "1117".equals(req.getParameter("pin"));
        boolean script = "true".equals(req.getParameter("ajaxResponse"));
        if (!good) {
            Clinic.failed(address);
        } else {
            Clinic.unlock(address);
            HttpSession old = req.getSession(false);
            if (old != null && !"false".equals(req.getParameter("invalidate_session"))) {
                old.invalidate();
            }
            req.getSession(true).setAttribute("user", "oscardoc");
            Clinic.count("logins");
        }
        if (script) {
            res.setContentType("text/x-json;charset=UTF-8");
            res.getWriter().print("{\"success\":" + good + "}");
        } else if (good) {
            res.sendRedirect(res.encodeRedirectURL(req.getContextPath() + "/provider/providercontrol.jsp?displaymode=day"));
        } else {
            res.sendRedirect(res.encodeRedirectURL(req.getContextPath() + "/index.jsp?login=failed"));
        }
    }

    /** Ends the session and every cookie that came along, whoever set it. */
    private void logout(HttpServletRequest req, HttpServletResponse res) throws IOException {
        HttpSession session = req.getSession(false);
        if (session != null) {
            session.invalidate();
        }
        Cookie[] cookies = req.getCookies();
        for (Cookie c : cookies == null ? new Cookie[0] : cookies) {
            Cookie gone = new Cookie(c.getName(), "");
            gone.setPath("/");
            gone.setMaxAge(0);
            res.addCookie(gone);
        }
        res.sendRedirect(req.getContextPath() + "/logout.jsp");
    }

    private void note(HttpServletRequest req, HttpServletResponse res) throws IOException {
        String method = req.getParameter("method");
        Clinic.Patient p = Clinic.patient(req.getParameter("demographicNo"));
        HttpSession session = req.getSession(false);
        Object user = session == null ? null : session.getAttribute("user");
        if (user == null) {
            res.sendRedirect(req.getContextPath() + "/logout.jsp");
            return;
        }
        if (p == null || method == null) {
            res.sendError(400);
            return;
        }
        String text = req.getParameter("caseNote_note");
        switch (method) {
            case "save", "saveAndExit" -> {
                Clinic.save(p, text, user.toString(), "on".equals(req.getParameter("sign")) ? "signed" : "saved");
                res.sendRedirect(req.getContextPath() + "/casemgmt/forward.jsp?demographicNo=" + p.no());
            }
            case "autosave", "ajaxsave" -> {
                res.setContentType("application/json;charset=UTF-8");
                res.getWriter().print("{\"saved\":" + Clinic.save(p, text, user.toString(), "autosave") + "}");
            }
            case "displayNotes" -> res.sendRedirect(req.getContextPath() + "/casemgmt/forward.jsp?demographicNo=" + p.no());
            default -> res.sendError(400);
        }
    }

    /** Stores the HTML of a form as it was written, script included. */
    private void form(HttpServletRequest req, HttpServletResponse res) throws IOException {
        String id = req.getParameter("fid");
        if (id == null || req.getParameter("formHtml") == null) {
            res.sendError(400);
            return;
        }
        Clinic.plant(id, req.getParameter("formHtml"));
        res.sendRedirect(req.getContextPath() + "/eform/efmshowform_data.jsp?fid=" + id);
    }

    private void plain(HttpServletResponse res, String text) throws IOException {
        res.setContentType("text/plain;charset=UTF-8");
        res.getWriter().print(text);
    }
}
